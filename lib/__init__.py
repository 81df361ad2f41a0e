"""Reference implementations for the book: one module a chapter, in the order of the text.

Every estimator answers the same question, ∂φ(π(β))/∂β_i at β = 1, with the same sign and scale;
leave-one-out, to first order, is minus it.
Start with `objective` (section 1.4), then open the module of the chapter you have just read.
"""
