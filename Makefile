.PHONY: check test bench docs

check:
	bash .ci/run

test:
	.venv/bin/pytest -n 2

bench:
	.venv/bin/python benchmarks/run.py
	.venv/bin/python benchmarks/table.py

docs:
	.venv/bin/python docs/reference/make_cli.py
	.venv/bin/python docs/reference/make_pictures.py
	.venv/bin/zensical build --strict
