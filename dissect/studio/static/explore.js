// The room in which units are switched off, and brushed with.

import { get } from "./api.js";
import { $, boxCount, dismiss, notice, onSlide, options, saved } from "./dom.js";
import { makeBrush } from "./brush.js";
import { makeComparison } from "./comparison.js";
import { copyEdit, editBody, editFrom, editWords, freshEdit, nearestSample } from "./edit.js";
import { showFields } from "./fields.js";
import { History } from "./history.js";
import { EXPLORE } from "./keys.js";
import { forgetMeasure, makeMeasure } from "./metrics.js";
import { makeRanking, RANKINGS, sortName } from "./ranking.js";
import { makeSaving } from "./saving.js";
import { nextThatShows } from "./samples.js";
import { makeSelection } from "./selection.js";
import { makeUnitList } from "./units.js";

export function exploreRoom(models, remember) {
  let model = models[0];
  let about = null; // the model's layers, concepts and size
  let study = null; // the layer's units beside the concept
  let sample = { seed: 1, index: 0 };
  let edit = freshEdit();

  const history = new History(() => {
    $("undo-edit").disabled = !history.canUndo;
    $("redo-edit").disabled = !history.canRedo;
  });
  const list = makeUnitList($("units"), {
    tick: (unit, on) => change(({ units }) => (on ? units.add(unit) : units.delete(unit))),
    hover: (unit) => pictures.hover(unit),
  });
  const brushing = makeBrush({
    grid: () => (study && edit.where === "brush" ? study.grid : null), change, moved: showEdit,
  });
  const selection = makeSelection({ study: () => study, first: list.first, change });
  const pictures = makeComparison(look, {
    drawn: keep, masked: keep, brush: brushing.brush, key: brushing.key,
  });
  const ranking = makeRanking(context, (by, values) => {
    study.scores[by] = values;
    if ($("sort").value === by) sortUnits({ byItself: true });
  });

  const short = () => $("concept").value.split(" (")[0];
  const number = () => about?.classes?.indexOf(short()) ?? -1;
  const thumbnail = (seed, index) => `api/sample/${models.indexOf(model)}/${seed}/${index}.png`;

  function context() {
    return { model, layer: $("layer").value, concept: $("concept").value };
  }

  const body = () => ({ ...context(), ...sample, ...editBody(edit) });

  /** What the pictures are of. */
  function look() {
    return {
      about, study, sample, edit, context: context(), body: body(), at: number(), concept: short(),
    };
  }

  /** Change the edit by a step that can be undone; strokes and slides of one hand are one step. */
  function change(alter, event, { joined = false } = {}) {
    if (!study) return;
    const past = copyEdit(edit);
    alter(edit);
    if (!joined) history.push({ past });
    showEdit();
    pictures.draw(event?.timeStamp ?? performance.now());
  }

  function restore(state) {
    if (!state) return;
    edit = copyEdit(state);
    showEdit();
    pictures.draw();
  }

  function undo() {
    const step = history.undo();
    if (!step) return;
    step.later = copyEdit(edit);
    restore(step.past);
  }

  function redo() {
    restore(history.redo()?.later);
  }

  function showEdit() {
    showFields(edit, study);
    list.tick(edit.units);
    pictures.show(study, edit, brushing.cursor());
    forgetMeasure(number() >= 0 && edit.where !== "brush");
  }

  /** Keep the view in the address. */
  function keep() {
    const sort = $("sort").value;
    const mask = pictures.mask.chosen();
    remember("explore", {
      ...context(), ...sample, ...editWords(edit), ...(sort !== "weight" && { sort }),
      ...(mask && { mask }), ...($("see").checked && { see: 1 }),
      ...($("control").checked && { control: $("control").dataset.draw }),
    });
  }

  function go(seed, index) {
    sample = nearestSample(seed, index);
    $("seed").value = sample.seed;
    $("index").value = sample.index;
    pictures.look();
  }

  function sortUnits(how) {
    const by = $("sort").value;
    $("head").textContent = sortName(by in study.scores ? by : "weight");
    list.sort(study, by, how);
  }

  /** Sort as the select says; what is not known yet is measured now. */
  function chooseSort() {
    if (!study) return;
    const by = $("sort").value;
    if (RANKINGS.includes(by)) ranking.follow(by);
    else ranking.stop();
    sortUnits();
    keep();
  }

  async function openModel(words) {
    about = await get("model", { model });
    options($("layer"), about.layers.map((name) => [name, name]));
    listConcepts();
    const opened = about.edit ?? {};
    const wanted = [words.get("layer"), opened.layer, "layer8x8", about.layers[0]];
    $("layer").value = wanted.find((name) => about.layers.includes(name));
    const names = Object.keys(about.concepts);
    const sameConcept = names.find((name) => name.split(" (")[0] === opened.concept);
    const concept = [words.get("concept"), sameConcept].find((name) => name in about.concepts);
    if (concept) $("concept").value = concept;
    tellAbsent(words);
    nameConcept();
    const none = !names.length;
    const advice = "draw some under Annotate, which shows the first model’s samples.";
    for (const id of ["concept", "sort"]) $(id).disabled = none;
    if (none) notice(`No boxes are known on samples of this model: ${advice}`, { id: "none" });
    return !none;
  }

  /** Say what the address asks for and is not here. */
  function tellAbsent(words) {
    const here = { model: models, layer: about.layers, concept: Object.keys(about.concepts) };
    for (const [what, names] of Object.entries(here)) {
      const asked = words.get(what);
      if (asked === null || names.includes(asked) || !names.length) continue;
      notice(`There is no ${what} “${asked}” here; ${$(what).value} is shown.`, { id: what });
    }
  }

  function listConcepts() {
    const counted = Object.entries(about.concepts);
    options($("concept"), counted.map(([name, boxes]) => [name, `${name}: ${boxCount(boxes)}`]));
  }

  /** Boxes may have been drawn since the room was left. */
  async function comeBack() {
    const chosen = $("concept").value;
    const boxes = about.concepts[chosen];
    about = await get("model", { model });
    listConcepts();
    if (chosen in about.concepts) $("concept").value = chosen;
    if (about.concepts[chosen] === boxes) keep();
    else await restudy();
  }

  /** What needs the segmenter, and speaks of the concept, is there only where the two meet. */
  function nameConcept() {
    pictures.mask.offer(about.classes, short());
    $("with-concept").hidden = number() < 0;
    $("with-concept").textContent = `Next ${short()}`;
  }

  /** The units of the layer beside the concept; `words` of the address may bring an edit. */
  async function openStudy(words) {
    study = null;
    ranking.stop();
    $("units").replaceChildren();
    saved("fitting the probe…");
    study = await get("units", context());
    saved("");
    // What counts the concept's pixels must know it.
    const names = [...Object.keys(study.scores), ...(number() < 0 ? [] : RANKINGS), "unit"];
    const sort = words.get("sort") ?? $("sort").value;
    options($("sort"), names.map((name) => [name, sortName(name)]));
    $("sort").value = names.includes(sort) ? sort : "weight";
    selection.offer(study);
    pictures.regrid(study.grid);
    brushing.forget();
    edit = editFrom(words, study);
    if (words.has("units")) {
      pictures.mask.choose(words.get("mask"));
      $("see").checked = words.has("see");
      $("control").checked = words.has("control");
      $("control").dataset.draw = nearestSample(0, words.get("control")).index;
    }
    history.forget(() => true);
    showEdit();
    // The list brings hundreds of small pictures, which can wait for the large ones.
    await pictures.compare();
    list.show(study, $("sort").value, thumbnail);
    chooseSort();
    list.tick(edit.units);
  }

  async function reopen(words = new URLSearchParams()) {
    for (const id of ["none", "open"]) dismiss(id);
    try {
      study = null;
      $("metrics").replaceChildren();
      const units = await openModel(words);
      if (!units) showEdit();
      const seen = pictures.look();
      if (units) await openStudy(words);
      await seen;
    } catch (error) {
      fail(error);
    }
  }

  async function restudy() {
    try {
      nameConcept();
      await openStudy(new URLSearchParams());
    } catch (error) {
      fail(error);
    }
  }

  function fail(error) {
    saved("");
    showEdit();
    notice(error.message, { id: "open" });
  }

  options($("model"), models.map((name) => [name, name]));
  $("model-field").hidden = models.length < 2;
  $("model").addEventListener("change", (event) => { model = event.target.value; reopen(); });
  $("layer").addEventListener("change", restudy);
  $("concept").addEventListener("change", restudy);
  $("sort").addEventListener("change", chooseSort);
  $("where").addEventListener("change", (event) => {
    change((now) => { now.where = event.target.value; }, event);
  });
  for (const name of ["seed", "index"]) {
    $(name).addEventListener("change", () => go($("seed").value, $("index").value));
  }
  $("sample-previous").addEventListener("click", () => go(sample.seed, sample.index - 1));
  $("sample-next").addEventListener("click", () => go(sample.seed, sample.index + 1));
  $("with-concept").addEventListener("click", async () => {
    const shows = { at: number(), name: short(), pixels: about.width * about.height };
    const found = await nextThatShows({ model, ...sample }, shows);
    if (found) go(found.seed, found.index);
  });
  $("undo-edit").addEventListener("click", undo);
  $("redo-edit").addEventListener("click", redo);
  $("see").addEventListener("change", () => { pictures.overlay(); keep(); });
  $("control").dataset.draw = 0;
  $("control").addEventListener("change", () => { showEdit(); pictures.draw(); });
  $("redraw").addEventListener("click", () => {
    $("control").dataset.draw = Number($("control").dataset.draw) + 1;
    pictures.draw();
  });
  makeSaving(body);
  makeMeasure(body, short);
  for (const name of ["strength", "threshold"]) {
    onSlide($(name), (value, event, joined) => change((now) => { now[name] = value; }, event, { joined }));
  }
  history.changed();

  const act = (where) => () => change((now) => { now.where = where; });
  const actions = {
    ArrowLeft: () => go(sample.seed, sample.index - 1),
    ArrowRight: () => go(sample.seed, sample.index + 1),
    a: () => ($("auto").disabled ? notice($("auto").title, { id: "auto" }) : $("auto").click()),
    e: act("everywhere"),
    p: act("probe"),
    b: act("brush"),
    m: () => pictures.mask.toggle(short()),
    c: () => $("control").click(),
  };

  return {
    keys: EXPLORE,
    undo,
    redo,
    press(event) {
      if (event.target instanceof HTMLInputElement && event.target.type !== "checkbox") return false;
      const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      if (!action || !about) return false;
      action();
      return true;
    },
    async enter(words) {
      const asked = models.includes(words.get("model")) ? words.get("model") : model;
      const seen = about && !words.size && asked === model && study;
      model = asked;
      $("model").value = model;
      if (words.has("index")) sample = nearestSample(words.get("seed"), words.get("index"));
      $("seed").value = sample.seed;
      $("index").value = sample.index;
      if (seen) await comeBack();
      else await reopen(words);
    },
  };
}
