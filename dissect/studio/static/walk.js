// The room in which a sample moves: along the line to another, and along saved directions.

import { get, latest, post } from "./api.js";
import { $, bytes, element, notice, options, paint, text } from "./dom.js";
import { WALK } from "./keys.js";

const STEPS = 9;
const FURTHEST = 2; // times a direction's vector; its own axis goes from -1 to 1
const WALKING = { name: "walk", ends: ["start", "end"], low: 0, high: 1 };

const signed = (value) => value.toFixed(2).replace("-", "−");

export function walkRoom(models, remember) {
  let model = models[0];
  let about = null; // the model's size and directions
  let sliders = []; // the walk's first, then one for each direction
  let shown = WALKING; // whose whole line the strip shows
  const fields = {};

  function field(end, name, title, value) {
    const named = { "aria-label": `${end === "start" ? "From" : "To"} ${name}` };
    const input = element("input", { type: "number", min: 0, value, ...named });
    input.addEventListener("change", () => all());
    fields[`${end} ${name}`] = input;
    return element("label", { className: "inline" }, title, input);
  }

  const ends = $("walk-ends");
  const select = element("select");
  if (models.length > 1) {
    options(select, models.map((name) => [name, name]));
    select.addEventListener("change", async () => {
      model = select.value;
      await open().catch((error) => notice(error.message, { id: "walk" }));
      all();
    });
    ends.append(element("label", { className: "inline" }, "Model", select));
  }
  ends.append(
    field("start", "seed", "From seed", 1), field("start", "index", "index", 0),
    element("span", { className: "break" }),
    field("end", "seed", "to seed", 1), field("end", "index", "index", 1),
  );
  for (const [title, end] of [["Another start", "start"], ["Another end", "end"]]) {
    const another = element("button", { type: "button", textContent: title });
    another.addEventListener("click", () => {
      fields[`${end} index`].value = Number(fields[`${end} index`].value) + 1;
      all();
    });
    ends.append(another);
  }

  function whole(name, most) {
    const value = Math.min(Math.max(0, Math.floor(Number(fields[name].value)) || 0), most);
    fields[name].value = value;
    return value;
  }

  const latent = (end) => ({ seed: whole(`${end} seed`, 2 ** 40), index: whole(`${end} index`, 999999) });

  /** Where the sliders stand, but for one of them, which may stand elsewhere. */
  function point(moved = null, value = 0) {
    const [fraction, ...offsets] = sliders.map((one) => (one === moved ? value : Number(one.input.value)));
    return { fraction, offsets };
  }

  async function drawn(points) {
    const answer = await post("walk", { model, start: latent("start"), end: latent("end"), points });
    return answer.pictures.map(bytes);
  }

  const show = (canvas, pixels) => paint(canvas, pixels, about.width, about.height);

  const here = latest(async (began = null) => {
    for (const { input, output, plain } of sliders) {
      output.textContent = plain ? Number(input.value).toFixed(2) : signed(Number(input.value));
    }
    try {
      const [pixels] = await drawn([point()]);
      show($("walk-here"), pixels);
      const [{ input }, ...turns] = sliders;
      const turned = turns.filter((one) => Number(one.input.value));
      const told = turned.map((one) => `${one.name} ${one.output.textContent}`);
      const way = `${Math.round(input.value * 100)}% of the way`;
      $("walk-caption").textContent = way;
      $("walk-here").setAttribute("aria-label", [`The sample ${way}`, ...told].join("; "));
      if (began !== null) performance.measure("walk", { start: began, end: performance.now() });
      remember("walk", {
        model, from: `${fields["start seed"].value}.${fields["start index"].value}`,
        to: `${fields["end seed"].value}.${fields["end index"].value}`, share: input.value,
        ...(turned.length && { moved: turns.map((one) => one.input.value).join("_") }),
      });
    } catch (error) {
      notice(error.message, { id: "walk" });
    }
  });

  /** The whole line of one slider, the others where they stand. */
  const line = latest(async () => {
    const one = sliders.find(({ name }) => name === shown.name) ?? sliders[0];
    const places = Array.from({ length: STEPS }, (_, step) => one.low + ((one.high - one.low) * step) / (STEPS - 1));
    try {
      const made = await drawn(places.map((place) => point(one, place)));
      $("strip-title").textContent = one.plain ? "The whole line between them" : `All of ${one.name}`;
      $("strip").replaceChildren(...made.map((pixels, step) => {
        const canvas = element("canvas");
        show(canvas, pixels);
        const told = one.plain ? `${Math.round(places[step] * 100)}%` : signed(places[step]);
        const named = { type: "button", "aria-label": `${one.name} to ${told}` };
        const button = element("button", named, canvas, text("quiet", told));
        button.addEventListener("click", (event) => { one.input.value = places[step]; here(event.timeStamp); });
        return button;
      }));
    } catch (error) {
      notice(error.message, { id: "walk" });
    }
  });

  async function all() {
    try {
      const still = sliders.slice(1).map(() => 0);
      const [first, last] = await drawn([{ fraction: 0, offsets: still }, { fraction: 1, offsets: still }]);
      show($("walk-start"), first);
      show($("walk-end"), last);
    } catch (error) {
      notice(error.message, { id: "walk" });
      return;
    }
    await Promise.all([here(), line()]);
  }

  function listen(slider) {
    slider.input.addEventListener("input", (event) => here(event.timeStamp));
    for (const what of ["focus", "change"]) slider.input.addEventListener(what, () => follow(slider));
    return slider;
  }

  /** Show the line of the slider at hand; while it moves itself, its line stays. */
  function follow(slider) {
    if (shown.name === slider.name) return;
    shown = slider;
    line();
  }

  const walking = listen({ ...WALKING, plain: true, input: $("share"), output: $("share-value") });

  function turn({ name, attribute, ends: [less, more] }, number) {
    const input = element("input", {
      type: "range", id: `turn${number}`, min: -FURTHEST, max: FURTHEST, step: 0.05, value: 0,
    });
    const output = element("output", { textContent: signed(0) });
    const zero = element("button", { type: "button", textContent: "0", "aria-label": `${name} back to 0` });
    const slider = listen({ name, ends: [less, more], low: -FURTHEST, high: FURTHEST, input, output });
    zero.addEventListener("click", (event) => {
      input.value = 0;
      here(event.timeStamp);
      follow(slider);
    });
    const rest = text("quiet", name.slice(attribute.length).replace(/^, /, " "));
    const label = element("label", { htmlFor: input.id, title: name }, attribute, rest);
    const [low, high] = [less, more].map((end) => element("span", { className: "quiet", title: end, textContent: end }));
    const track = element("span", { className: "track" }, low, input, high);
    $("turns").append(element("div", { className: "slider" }, label, output, track, zero));
    return slider;
  }

  /** The model's size and its directions, each with a slider. */
  async function open() {
    about = await get("model", { model });
    $("turns").replaceChildren();
    sliders = [walking, ...about.directions.map(turn)];
    shown = walking;
    $("no-turns").hidden = about.directions.length > 0;
    $("no-turns").textContent = "Directions that dissect turn saved are sliders here: start with --directions FILE or FOLDER.";
  }

  function move(step) {
    const { input } = sliders.find(({ name }) => name === shown.name) ?? walking;
    input.value = Number(input.value) + step * (input.max - input.min);
    here(performance.now());
  }

  return {
    keys: WALK,
    press(event) {
      if (event.target.type === "range" || !["ArrowLeft", "ArrowRight"].includes(event.key)) return false;
      move(event.key === "ArrowLeft" ? -0.02 : 0.02);
      return true;
    },
    async enter(words) {
      const named = words.get("model");
      const asked = models.includes(named) ? named : model;
      if (named && named !== asked) notice(`There is no model “${named}” here; ${asked} is shown.`, { id: "model" });
      if (!about || asked !== model) {
        model = asked;
        select.value = model;
        await open();
      }
      for (const [word, end] of [["from", "start"], ["to", "end"]]) {
        const found = /^(\d{1,12})\.(\d{1,6})$/.exec(words.get(word) ?? "");
        if (found) [fields[`${end} seed`].value, fields[`${end} index`].value] = [found[1], found[2]];
      }
      if (words.has("share")) {
        $("share").value = words.get("share");
        const moved = (words.get("moved") ?? "").split("_");
        sliders.slice(1).forEach(({ input }, place) => { input.value = Number(moved[place]) || 0; });
        shown = sliders.slice(1).find(({ input }) => Number(input.value)) ?? walking;
      }
      await all();
    },
  };
}
