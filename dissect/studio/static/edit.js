// What is done to a sample: units, where, how strongly, and brushed cells; and it as words.

const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

/** A set of small numbers as hexadecimal digits, for the address. */
const packed = (set) => [...set].reduce((bits, one) => bits | (1n << BigInt(one)), 0n).toString(16);

function unpacked(text, below) {
  if (!/^[0-9a-f]{1,1024}$/.test(text ?? "")) return [];
  const bits = BigInt(`0x${text}`);
  return Array.from({ length: below }, (_, one) => one).filter((one) => (bits >> BigInt(one)) & 1n);
}

const within = (text, otherwise, low, high) => {
  const value = text === null ? NaN : Number(text);
  return value >= low && value <= high ? value : otherwise;
};

/** A sample that there is, whatever was typed. */
export function nearestSample(seed, index) {
  const whole = (value, most) => Math.min(Math.max(0, Math.floor(Number(value)) || 0), most);
  return { seed: whole(seed, Number.MAX_SAFE_INTEGER), index: whole(index, 999999) };
}

export function freshEdit() {
  return { units: new Set(), strength: 1, threshold: 0.5, where: "everywhere", cells: new Map() };
}

export function copyEdit(edit) {
  return { ...edit, units: new Set(edit.units), cells: new Map(edit.cells) };
}

/** The cells that were brushed for one purpose. */
function cellsOf(edit, kind) {
  return [...edit.cells].filter(([, one]) => one === kind).map(([at]) => at);
}

/** Brush the cells around one, `width` of them across; "erase" takes the brush's marks away. */
export function brushCells({ cells }, at, [rows, columns], kind, width) {
  const reach = (width - 1) / 2;
  const row = Math.floor(at / columns);
  const column = at % columns;
  for (let y = Math.ceil(row - reach); y <= row + reach; y += 1) {
    for (let x = Math.ceil(column - reach); x <= column + reach; x += 1) {
      if (y < 0 || x < 0 || y >= rows || x >= columns) continue;
      if (kind === "erase") cells.delete(y * columns + x);
      else cells.set(y * columns + x, kind);
    }
  }
}

/** The cell that an arrow key leads to, from the middle at first; null at any other key. */
export function steppedCell(from, key, [rows, columns]) {
  const step = STEPS[key];
  if (!step) return null;
  if (from === null) return Math.floor(rows / 2) * columns + Math.floor(columns / 2);
  const row = Math.min(Math.max(Math.floor(from / columns) + step[0], 0), rows - 1);
  const column = Math.min(Math.max((from % columns) + step[1], 0), columns - 1);
  return row * columns + column;
}

/** The edit as the server takes it. */
export function editBody(edit) {
  return {
    units: [...edit.units], strength: edit.strength, threshold: edit.threshold, where: edit.where,
    remove: cellsOf(edit, "remove"), insert: cellsOf(edit, "insert"),
  };
}

/** Whether a probe says where the edit acts, with a threshold. */
export const gated = ({ where }) => where === "probe" || where === "auto";

/** The edit as words of the address. */
export function editWords(edit) {
  const words = { units: packed(edit.units), where: edit.where, strength: edit.strength };
  if (gated(edit)) words.threshold = edit.threshold;
  for (const kind of ["remove", "insert"]) {
    const cells = cellsOf(edit, kind);
    if (cells.length) words[kind] = packed(cells);
  }
  return words;
}

/** The edit that words of the address tell, of the units of a study; without any, the paper's. */
export function editFrom(words, { top, grid, positive, auto }) {
  const edit = freshEdit();
  edit.units = new Set(words.has("units") ? unpacked(words.get("units"), top.length) : positive);
  const places = ["everywhere", "probe", "brush", ...(auto.units ? ["auto"] : [])];
  edit.where = places.find((one) => one === words.get("where")) ?? "everywhere";
  edit.strength = within(words.get("strength"), 1, 0, 2);
  edit.threshold = within(words.get("threshold"), 0.5, 0, 0.99);
  // A file that was opened is the first edit, unless the address holds another one.
  if (auto.opened && !words.has("units")) {
    const { units, strength, threshold } = auto;
    return { ...edit, units: new Set(units), strength, threshold, where: "auto" };
  }
  for (const kind of ["remove", "insert"]) {
    for (const at of unpacked(words.get(kind), grid[0] * grid[1])) edit.cells.set(at, kind);
  }
  return edit;
}
