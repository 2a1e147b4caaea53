# Each target does the set-up it needs. The environment is .venv; it is made anew when a requirement file changes.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
REQUIREMENTS := requirements.txt requirements-dev.txt requirements-detectron2.txt
READY := $(VENV)/.ready
# A file in each environment that make has begun: another is a user's own, and stays as it is.
OURS := $(VENV)/.made-by-make
DEMO := configs/shapes/ifa_r18
DEMO_OUTPUT := output/shapes/ifa_r18
STREETS := camvid/ifa_lite0_stride2

REFUSE_FOREIGN = if [ -e $(VENV) ] && [ ! -e $(OURS) ] && [ ! -e $(READY) ]; then \
	echo "make: $(VENV) is there and was not made by make, which would empty it: rename it," \
	"or name another folder, as in 'make $(or $(MAKECMDGOALS),setup) VENV=.venv-ifa'" >&2; exit 1; fi

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup test smoke demo lint clean

setup: $(READY)

# The Detectron2 wheel is tagged for CPython 3.10 but holds only Python: pip takes it for another
# version when it is given a target folder. The wheel also carries a top-level package "tools",
# which would shadow folders of that name.
$(READY): $(REQUIREMENTS)
	@$(REFUSE_FOREIGN)
	$(PYTHON) -m venv --clear $(VENV)
	touch $(OURS)
	$(BIN)/python -m pip install -r requirements.txt -r requirements-dev.txt
	site=$$($(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))") && \
	$(BIN)/python -m pip install --no-deps --only-binary=:all: --python-version 3.10 \
		--target "$$site" -r requirements-detectron2.txt && \
	rm -rf "$$site/tools"
	$(BIN)/python -m pip install --no-deps --no-build-isolation -e .
	touch $(READY)

# Processes side by side, one thread each: the tests' tensors are too small for more.
WORKERS ?= 2

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --durations=40 --durations-min=8 $(PYTEST_ARGS)

# Some tests of each part with the newest Python that runs, in an environment of its own.
NEWEST ?= $(shell for it in python3.13 python3.12; do $$it -c '' 2>&- && echo $$it && break; done)
SMOKE := tests/test_package.py tests/test_config_reference.py tests/layers tests/fields/test_field.py tests/metrics \
	tests/evaluation tests/data/test_labels.py tests/data/test_mapper.py tests/modeling/test_ifa_head.py \
	tests/engine/test_predictor.py tests/engine/test_checkpoint.py tests/rasters/test_run.py \
	tests/engine/test_export.py::test_files_take_any_size_and_number tests/tools/test_train_net.py::test_train_and_resume

smoke:
	@if [ -z "$(NEWEST)" ]; then echo "make: there is no Python 3.12 or 3.13: no test was run with one"; \
	else $(MAKE) test PYTHON=$(NEWEST) VENV=.venv-$(notdir $(NEWEST)) PYTEST_ARGS="$(SMOKE)"; fi

# Streets by a trained model at once; the figures that training ends with come last, after the drawing.
demo: $(READY)
	$(BIN)/python tools/demo.py --config-file $(STREETS).py --weights ifa_d2://$(STREETS) --input zoo/camvid/street*.jpg --output output/streets
	$(BIN)/python tools/train_net.py --config-file $(DEMO).py --resume
	$(BIN)/python tools/demo.py --config-file $(DEMO).py --dataset shapes_val --num 12 --output $(DEMO_OUTPUT)/pictures
	@$(BIN)/python -c "import json; \
	rows = map(json.loads, open('$(DEMO_OUTPUT)/metrics.json')); \
	print('mIoU on shapes_val:', round([r['sem_seg/mIoU'] for r in rows if 'sem_seg/mIoU' in r][-1], 2))"
	@echo "pictures: $(DEMO_OUTPUT)/pictures/sheet.png"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	@$(REFUSE_FOREIGN)
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
