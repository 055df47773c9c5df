# PYTHON=... selects the interpreter of a new environment, PYTEST_ARGS=... some of the tests.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-originals test-all check-gpu figures docs lint format clean

# On the CPU also where there is a GPU: mmcv's ops are compiled for the CPU (tools/env/setup.sh).
PYTEST = CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(1)/bin/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --durations=10 $(PYTEST_ARGS)
SPELLED = coma_mm configs docs tests tools $(wildcard *.md *.toml *.py Makefile)

help:  ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 26

setup:  ## make .venv for pre-training: pinned packages, nothing compiled
	@tools/env/setup.sh onedl pretrain

demo: setup  ## pre-train on handwritten digits and on real photos, then show unseen ones: 6 minutes on a CPU
	@echo '==> 1 of 3: digits, and what their features tell apart: configs/pretrain/coma_dyvit-p_digits.py, 1 minute on 2 cores'
	@.venv/bin/python tools/train.py configs/pretrain/coma_dyvit-p_digits.py --overwrite
	@echo '==> 2 of 3: the picture: configs/pretrain/coma_dyvit-p_photos.py, 4 to 6 minutes on 2 cores'
	@.venv/bin/python tools/train.py configs/pretrain/coma_dyvit-p_photos.py --overwrite
	@echo '==> 3 of 3: photos that a model has never seen, by weights/dyvit-p_cifar10.safetensors: seconds'
	@.venv/bin/python tools/visualize.py configs/pretrain/mae_dyvit-p_cifar10.py coma_mm://dyvit-p_cifar10 \
		--photos --out work_dirs/unseen_photos.png
	@echo '==> next, your own images: source .venv/bin/activate && coma-mm pretrain FOLDER --out runs/mine'

test:  ## complete .venv (mmdet, mmseg, compiled mmcv ops) and run the tests
	@tools/env/setup.sh onedl test
	$(call PYTEST,.venv)

test-originals:  ## the same tests with open-mmlab's own last releases, in .venv-originals
	@tools/env/setup.sh originals test
	$(call PYTEST,.venv-originals)

test-all:  ## all tests, with the slow ones that make test leaves out
	@tools/env/setup.sh onedl test
	$(call PYTEST,.venv) -m 'slow or not slow'

check-gpu: setup  ## what tests on CPUs cannot show, and benchmarks: 8 minutes on one GPU; without one it says so
	@.venv/bin/python tools/lab/check_gpu.py

figures:  ## write the figures of docs/benchmarks/*.json into README and docs
	@python3 tools/lab/figures.py

docs:  ## make the site, build/docs/index.html, in its own .venv-docs: half a minute the first time
	@tools/env/setup.sh docs docs
	@.venv-docs/bin/python -m sphinx -qEW --keep-going -c docs . build/docs
	@echo '==> build/docs/index.html'

lint:  ## check format, code, types, prose and spelling
	@tools/env/setup.sh onedl lint
	.venv/bin/python -m ruff format --check .
	.venv/bin/python -m ruff check .
	.venv/bin/python -m mypy
	.venv/bin/python tools/lab/prose.py
	.venv/bin/python -m codespell_lib $(SPELLED)

format:  ## format the code, and correct what can be corrected safely
	@tools/env/setup.sh onedl lint
	.venv/bin/python -m ruff format .
	.venv/bin/python -m ruff check --fix .

clean:  ## delete what was built here; keep environments, data and results
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find coma_mm configs tests tools -name __pycache__ -prune -exec rm -rf {} +
