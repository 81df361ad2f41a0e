# make book   build the pages and say which file to open
# make pdf    the book as one PDF and one zip, beside the pages (a minute)
# make test   everything CI runs
# make lighthouse   Lighthouse's full scores of every page, on a machine at rest (ten minutes)
# make lab    JupyterLab on the exercises
# make grade SUBMISSIONS=folder   scores and feedback for a class (book/teaching.md)
# make comparison   the table of chapter 5, from nothing (a quarter of an hour)
# make grader       how good the grader is, from nothing (half an hour)
# make bench        this book's functions beside other libraries (a quarter of an hour, own environments)
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# One thread per process: stored outputs, and the runs they are compared with, then agree on any machine.
export OMP_NUM_THREADS := 1

.PHONY: book pdf test lighthouse lab grade grader comparison bench exercises notebooks clean

book: $(READY)
	$(BIN)/jupyter-book build . -n --keep-going -q
	@echo "Open file://$(CURDIR)/_build/html/index.html"

pdf: book
	$(BIN)/python tools/pdf.py

test: $(READY)
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/python -m pytest -n 2 --dist loadfile

lighthouse: $(READY)
	LIGHTHOUSE=whole $(BIN)/python -m pytest tests/test_lighthouse.py -rP

lab: $(READY) # keeps what was written in exercises/; OPEN=02_leverage.ipynb opens one
	$(BIN)/jupyter lab exercises/$(OPEN)

OUT ?= graded
grade: $(READY)
	$(BIN)/python tools/grade.py "$(SUBMISSIONS)" --out "$(OUT)"

comparison: $(READY)
	$(BIN)/python tools/comparison.py

grader: $(READY)
	$(BIN)/python tools/mutants.py --seeds 200
	$(BIN)/python tools/grader.py --measure --seeds 200

bench: benchmarks/.venv/.ready # other libraries on the same task
	cd benchmarks && .venv/bin/python run.py && .venv/bin/python report.py

benchmarks/.venv/.ready: benchmarks/requirements.txt benchmarks/setup.sh
	PYTHON=$(PYTHON) sh benchmarks/setup.sh

exercises: $(READY) # generate exercises/ from solutions/
	$(BIN)/python tools/exercises.py

notebooks: $(READY) # run every notebook, then write what is made from them
	$(BIN)/python tools/notebooks.py run
	$(BIN)/python tools/exercises.py
	$(BIN)/python tools/ledger.py

clean:
	rm -rf _build .venv

$(READY): requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, not " + sys.version)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -c "import matplotlib.pyplot" # writes its font cache now, not into a notebook's output
	touch $@
