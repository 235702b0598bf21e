// The room in which one sample turns into another along the line between their latents.

import { latest, post } from "./api.js";
import { $, bytes, element, notice, options, paint } from "./dom.js";
import { WALK } from "./keys.js";

const STEPS = 9;

export function walkRoom(models, remember) {
  let size = null;
  const fields = {};
  let model = models[0];

  function field(end, name, title, value) {
    const input = element("input", { type: "number", min: 0, value });
    input.addEventListener("change", () => all());
    fields[`${end} ${name}`] = input;
    return element("label", { className: "inline" }, title, input);
  }

  const ends = $("walk-ends");
  if (models.length > 1) {
    const select = element("select");
    options(select, models.map((name) => [name, name]));
    select.addEventListener("change", () => { model = select.value; size = null; all(); });
    ends.append(element("label", { className: "inline" }, "Model", select));
  }
  ends.append(
    field("start", "seed", "From seed", 1), field("start", "index", "index", 0),
    field("end", "seed", "to seed", 1), field("end", "index", "index", 1),
  );
  const another = element("button", { type: "button", textContent: "Another end" });
  another.addEventListener("click", () => {
    fields["end index"].value = Number(fields["end index"].value) + 1;
    all();
  });
  ends.append(another);

  function whole(name, most) {
    const value = Math.min(Math.max(0, Math.floor(Number(fields[name].value)) || 0), most);
    fields[name].value = value;
    return value;
  }

  const latent = (end) => ({ seed: whole(`${end} seed`, 2 ** 40), index: whole(`${end} index`, 999999) });

  async function between(shares) {
    const asked = { model, start: latent("start"), end: latent("end"), shares };
    const { pictures, width, height } = await post("walk", asked);
    size = { width, height };
    return pictures.map(bytes);
  }

  const here = latest(async () => {
    const share = Number($("share").value);
    $("share-value").textContent = share.toFixed(2);
    try {
      const [pixels] = await between([share]);
      paint($("walk-here"), pixels, size.width, size.height);
      $("walk-caption").textContent = `${Math.round(share * 100)}% of the way`;
      remember("walk", {
        model, from: `${fields["start seed"].value}.${fields["start index"].value}`,
        to: `${fields["end seed"].value}.${fields["end index"].value}`, share,
      });
    } catch (error) {
      notice(error.message, { id: "walk" });
    }
  });

  const all = latest(async () => {
    try {
      const shares = Array.from({ length: STEPS }, (_, step) => step / (STEPS - 1));
      const made = await between(shares);
      paint($("walk-start"), made[0], size.width, size.height);
      paint($("walk-end"), made.at(-1), size.width, size.height);
      $("strip").replaceChildren(...made.map((pixels, step) => {
        const canvas = element("canvas");
        paint(canvas, pixels, size.width, size.height);
        const name = `Go to ${Math.round(shares[step] * 100)}%`;
        const button = element("button", { type: "button", "aria-label": name }, canvas);
        button.addEventListener("click", () => { $("share").value = shares[step]; here(); });
        return button;
      }));
      await here();
    } catch (error) {
      notice(error.message, { id: "walk" });
    }
  });

  $("share").addEventListener("input", here);

  function move(step) {
    $("share").value = Number($("share").value) + step;
    here();
  }

  return {
    keys: WALK,
    press(event) {
      if (event.target === $("share") || !["ArrowLeft", "ArrowRight"].includes(event.key)) return false;
      move(event.key === "ArrowLeft" ? -0.02 : 0.02);
      return true;
    },
    async enter(words) {
      for (const [word, end] of [["from", "start"], ["to", "end"]]) {
        const found = /^(\d{1,12})\.(\d{1,6})$/.exec(words.get(word) ?? "");
        if (found) [fields[`${end} seed`].value, fields[`${end} index`].value] = [found[1], found[2]];
      }
      if (words.has("share")) $("share").value = words.get("share");
      if (models.includes(words.get("model"))) model = words.get("model");
      await all();
    },
  };
}
