# Every target does all its own set-up in .venv, from nothing but Python, pip and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo docs test lint format bench figures figures-foreign clean

demo: $(VENV)/.installed
	$(BIN)/dissect probe --concept window
	$(BIN)/dissect ablate
	@echo
	@echo "Look at out/ablate.png (before, and after the removal of the window units)"
	@echo "and at out/probe.png (which units they are)."

# A worker on each core: threads of torch's own would only wait for one another.
test: $(VENV)/.installed-dev lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

# The site, into out/site; any broken link or reference is an error.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "Open out/site/index.html"

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "dissect needs Python 3.11 or later")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[studio]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

# Every figure of speed in the README; on an idle machine, about ten minutes.
bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/imports.py
	$(BIN)/python benchmarks/commands.py
	$(BIN)/python benchmarks/record.py
	$(BIN)/python benchmarks/render.py
	$(BIN)/python benchmarks/train.py
	$(BIN)/python benchmarks/kills.py --steps 250
	$(BIN)/python benchmarks/dedup.py bedrooms
	$(BIN)/python benchmarks/dedup.py --codes 1000000
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/processes.py
	$(BIN)/python benchmarks/excise.py
	$(BIN)/python benchmarks/features.py

# Every picture in the README and beside the bundled model.
figures: $(VENV)/.installed
	$(BIN)/dissect probe --concept window --out out/figures
	$(BIN)/dissect probe --concept window --layer all --out out/figures/layers
	$(BIN)/dissect ablate --seed 1 --out out/figures
	$(BIN)/dissect ablate --rule positive --n 150 --pool 150 --seed 1 --out out/figures/fresh
	$(BIN)/dissect effect --rule positive --seed 2 --out out/figures
	$(BIN)/dissect effect --rule auto --seed 2 --out out/figures/auto
	$(BIN)/dissect rules --seed 2 --out out/figures
	$(BIN)/dissect evaluate segmenter --out out/figures
	$(BIN)/dissect guided --seed 1 --out out/figures
	$(BIN)/dissect guided --unit-range all --seed 1 --out out/figures/guided
	$(BIN)/dissect insert --seed 1 --out out/figures
	$(BIN)/dissect swap picture --labels segmenter --pool 300 --seed 1 --out out/figures
	$(BIN)/dissect ablate --concept picture --set strength=1.5 --rule positive --n 8 --seed 1 --out out/figures/picture
	$(BIN)/dissect ablate --concept lamp --layer layer16x16 --labels segmenter --rule positive --n 8 --seed 1 --out out/figures/lamp
	$(BIN)/dissect ablate --concept door --labels segmenter --rule positive --n 8 --seed 1 --out out/figures/door
	$(BIN)/dissect ablate --concept bed --set strength=1.5 --labels segmenter --rule positive --n 8 --seed 1 --out out/figures/bed
	$(BIN)/dissect ablate --rule lowrank:4 --where everywhere --seed 1 --out out/figures/directions
	$(BIN)/dissect sample --n 64 --out out/figures
	$(BIN)/dissect sample --model faces64 --n 64 --out out/figures/faces64
	$(BIN)/dissect turn --method exemplars --out out/figures/turn
	$(BIN)/dissect turn --method steered --out out/figures/turn
	$(BIN)/dissect arithmetic "smiling woman - neutral woman + neutral man" --name "smiling man" \
		--find "smiling woman=smile>0.8,hair_length>0.7,yaw>-20,yaw<20" \
		--find "neutral woman=smile<0.2,hair_length>0.7,yaw>-20,yaw<20" \
		--find "neutral man=smile<0.2,hair_length<0.3,yaw>-20,yaw<20" --out out/figures
	$(BIN)/dissect walk --model faces64 --n 12 --columns 9 --out out/figures/walk
	$(BIN)/dissect arithmetic "bedroom with window - bedroom without + red bed" --name "red bed, with window" \
		--model bedrooms64 --exemplars annotations/bedrooms64/exemplars/concepts.json --out out/figures/bedrooms
	$(BIN)/dissect turn window_side --model bedrooms64 --only "window>0.03" \
		--exemplars annotations/bedrooms64/exemplars/turn.json --out out/figures/bedrooms
	$(BIN)/dissect turn window_side --model bedrooms64 --only "window>0.03" --method steered --n 60 \
		--out out/figures/bedrooms
	$(BIN)/dissect walk --n 6 --columns 9 --concept window --concept picture --concept bed --concept lamp --out out/figures/bedrooms
	mkdir -p docs
	cp out/figures/bedrooms/arithmetic.png docs/arithmetic-bedrooms.png
	cp out/figures/bedrooms/turn-window_side-exemplars.png docs/turn-bedrooms.png
	cp out/figures/bedrooms/turn-window_side-steered.png docs/turn-bedrooms-steered.png
	cp out/figures/bedrooms/walk.png docs/walk-bedrooms.png
	cp out/figures/walk/walk.png docs/walk.png
	cp out/figures/arithmetic.png docs/
	cp out/figures/turn/turn-yaw-steered.png docs/turn-steered.png
	cp out/figures/turn/turn-yaw-exemplars.png docs/turn-exemplars.png
	cp out/figures/faces64/samples.png dissect/models/weights/faces64/samples.png
	cp out/figures/probe.png out/figures/ablate.png out/figures/effect.png out/figures/guided.png out/figures/guided/guided-concepts.png docs/
	for concept in picture lamp door bed; do cp out/figures/$$concept/ablate.png docs/ablate-$$concept.png; done
	cp out/figures/insert_map.png out/figures/insert.png out/figures/swap.png docs/
	cp out/figures/rules.png docs/
	cp out/figures/evaluate.png docs/segment.png
	cp out/figures/auto/effect.png docs/effect-auto.png
	cp out/figures/layers/layers.png docs/layers.png
	cp out/figures/samples.png dissect/models/weights/bedrooms64/samples.png

# Those of a generator of others; its weights are looked for where examples/foreign/face_dcgan.py says.
FOREIGN := --model examples/foreign/face_dcgan.py:generator
figures-foreign: $(VENV)/.installed
	$(BIN)/dissect arithmetic "man with glasses - man without glasses + woman without glasses" \
		--name "woman with glasses" $(FOREIGN) --exemplars annotations/face-dcgan-32/exemplars/concepts.json --out out/figures/foreign
	$(BIN)/dissect turn "where it looks" $(FOREIGN) --exemplars annotations/face-dcgan-32/exemplars/turn.json --out out/figures/foreign
	mkdir -p docs
	cp out/figures/foreign/arithmetic.png docs/arithmetic-face-dcgan.png
	cp "out/figures/foreign/turn-where it looks-exemplars.png" docs/turn-face-dcgan.png

clean:
	rm -rf $(VENV) out dist
