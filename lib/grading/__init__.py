"""Grading what students hand in: their code runs shut in, and is compared outside."""
