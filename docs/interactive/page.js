// What is seen and touched: columns of logits, controls, and the panels that follow from them. No numbers are computed here.
"use strict";

const LEAST = -6, MOST = 6, STEP = 0.1;
const START = {
  logits: [2, 1, 0.1, -1, 0.5], masked: [false, false, false, false, false], temperature: 1, softcap: 0, target: 0,
  smoothing: 0, zLoss: 0, format: "float32", offset: 1000, topK: 0, topP: 1, library: "numpy", seed: 1,
};
const WAYS = {
  naive: "exp(x) / sum(exp(x))",
  normalizer: "exp(x - logsumexp(x))",
  shifted: "exp(x - max) / sum",
  ours: "the steps of logitx",
};
// Sliders: name, label, least, most, step, to the state, from the state
const CONTROLS = [
  ["temperature", "Temperature", -1.3, 1.3, 0.01, (v) => Number((10 ** v).toPrecision(3)), Math.log10],
  ["softcap", "Soft cap (0: none)", 0, 20, 0.5, Number, Number],
  ["smoothing", "Label smoothing", 0, 0.9, 0.01, Number, Number],
  ["zLoss", "z-loss", 0, 0.5, 0.01, Number, Number],
];

let state = structuredClone(START);
const streams = { A: [], B: [] };
const arrivals = Arithmetic.generator(7);
const element = (id) => document.getElementById(id);

function made(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function shown(x, digits = 4) {
  if (Number.isNaN(x)) return "NaN";
  if (!Number.isFinite(x)) return x > 0 ? "+inf" : "-inf";
  if (Math.abs(x) > 1e-12 && Math.abs(x) < 10 ** -digits) return x.toExponential(1);
  return x.toFixed(digits).replace(/^-(0\.?0*)$/, "$1");
}

function change(values) {
  state = { ...state, ...values };
  draw();
}

function setLogit(j, value) {
  const logits = [...state.logits];
  logits[j] = Number.isFinite(value) ? Number(Math.min(MOST, Math.max(LEAST, value)).toFixed(2)) : value;
  change({ logits });
}

// -- the columns

const KEYS = { ArrowUp: STEP, ArrowRight: STEP, ArrowDown: -STEP, ArrowLeft: -STEP, PageUp: 1, PageDown: -1 };

function pressed(event, j) {
  const x = Number.isFinite(state.logits[j]) ? state.logits[j] : 0;
  if (event.key in KEYS) setLogit(j, x + KEYS[event.key]);
  else if (event.key === "Home") setLogit(j, LEAST);
  else if (event.key === "End") setLogit(j, MOST);
  else if (event.key === "m") toggleMask(j);
  else return;
  event.preventDefault();
}

function dragged(event, j) {
  if (event.type === "pointerdown") event.currentTarget.setPointerCapture(event.pointerId);
  else if (!event.currentTarget.hasPointerCapture(event.pointerId)) return;
  const box = event.currentTarget.getBoundingClientRect();
  setLogit(j, MOST - ((event.clientY - box.top) / box.height) * (MOST - LEAST));
}

function toggleMask(j) {
  change({ masked: state.masked.map((m, k) => (k === j ? !m : m)) });
}

const SVG = "http://www.w3.org/2000/svg";

function arrowOf() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "arrow");
  svg.setAttribute("viewBox", "0 0 20 200");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS(SVG, "path"));
  svg.firstChild.setAttribute("fill", "currentColor");
  return svg;
}

function column(j) {
  const name = `Class ${j}`;
  const track = made("div", {
    class: "track", role: "slider", tabindex: "0", "aria-label": `Logit of class ${j}`, "aria-orientation": "vertical",
    "aria-valuemin": LEAST, "aria-valuemax": MOST, id: `track-${j}`, onkeydown: (event) => pressed(event, j),
    onpointerdown: (event) => dragged(event, j), onpointermove: (event) => dragged(event, j),
  }, made("div", { class: "zero" }), made("div", { class: "bar" }), arrowOf());
  const special = ["-inf", "NaN", "+inf"].map((text) => made("button", {
    type: "button", "aria-label": `Set the logit of class ${j} to ${text}`,
    onclick: () => setLogit(j, { "-inf": -Infinity, NaN, "+inf": Infinity }[text]),
  }, text));
  const mask = made("button", { type: "button", id: `mask-${j}`, "aria-label": `Mask class ${j}`, onclick: () => toggleMask(j) }, "mask");
  const target = made("input", { type: "radio", name: "target", value: j, onchange: () => change({ target: j }) });
  return made("div", { class: "column", id: `column-${j}` },
    made("strong", {}, name), track, made("output", { class: "logit" }),
    made("div", { class: "probability" }, made("i")), made("output", { class: "p" }), made("output", { class: "log-p" }),
    made("output", { class: "slope" }),
    made("div", { class: "small" }, mask, ...special), made("label", {}, target, " target"));
}

function tell(node, name, value) {
  node.replaceChildren(made("span", {}, `${name} = `), value);
}

function drawColumn(j, row, loss) {
  const root = element(`column-${j}`), x = state.logits[j], p = row.probability[j], slope = loss.gradient[j];
  const part = (selector) => root.querySelector(selector);
  const height = Math.max(0.8, Math.abs(Number.isFinite(x) ? x : 0) / (MOST - LEAST) * 100);
  root.classList.toggle("masked", state.masked[j]);
  part(".track").setAttribute("aria-valuenow", Number.isFinite(x) ? x : 0);
  part(".track").setAttribute("aria-valuetext", `${shown(x, 2)}${state.masked[j] ? ", masked" : ""}`);
  part(".bar").style.height = `${height}%`;
  part(".bar").style.top = `${x > 0 ? 50 - height : 50}%`;
  tell(part(".logit"), "x", shown(x, 2));
  part(".probability i").style.height = `${(Number.isFinite(p) ? p : 0) * 100}%`;
  tell(part(".p"), "p", shown(p));
  tell(part(".log-p"), "log p", shown(row.logProbability[j], 3));
  tell(part(".slope"), "grad", shown(slope, 3));
  part(`#mask-${j}`).setAttribute("aria-pressed", state.masked[j]);
  part("input").checked = state.target === j;
  const tip = 100 - Math.max(-1, Math.min(1, Number.isFinite(slope) ? slope : 0)) * 95;
  const head = Math.min(9, Math.abs(tip - 100)), back = tip + (tip < 100 ? head : -head);
  const path = Math.abs(tip - 100) < 1 ? "" : `M7 100 L7 ${back} L1 ${back} L10 ${tip} L19 ${back} L13 ${back} L13 100 Z`;
  part(".arrow path").setAttribute("d", path);
}

// -- the panels

function drawNumbers(row, loss) {
  const lines = [
    ["maximum of the row", shown(row.pair.max)],
    ["sum of exp(x - maximum)", shown(row.pair.rest + 1)],
    ["log-normalizer, logsumexp", shown(row.logNormalizer)],
    ["entropy, in nats", shown(row.entropy)],
    ["perplexity, exp(entropy)", shown(row.perplexity)],
    [`loss of class ${state.target}`, loss.counted ? shown(loss.loss) : "not counted"],
    ["sum of the gradient", shown(loss.gradient.reduce((sum, g) => sum + g, 0))],
  ];
  element("numbers").replaceChildren(...lines.flatMap(([name, value]) => [made("dt", {}, name), made("dd", {}, value)]));
}

function drawPrecision() {
  const x = state.logits.filter((_, j) => !state.masked[j]);
  const result = Arithmetic.precision(x, state.format, state.offset);
  const head = made("tr", {}, made("th", { scope: "col" }, "way"), ...x.map((_, j) => made("th", { scope: "col" }, `p${j}`)),
    made("th", { scope: "col" }, "largest error"));
  const rows = Object.entries(WAYS).map(([way, name]) => {
    const { probability, error } = result[way];
    const worst = error.some(Number.isNaN) || error.length === 0 ? NaN : Math.max(...error);
    const cell = made("td", { class: worst < 1.6 ? "good" : worst < 4 ? "" : "bad" }, Number.isNaN(worst) ? "no result" : `${shown(worst, 2)} ulp`);
    return made("tr", {}, made("td", {}, name), ...probability.map((p) => made("td", {}, shown(p, 5))), cell);
  });
  element("precision").replaceChildren(made("thead", {}, head), made("tbody", {}, ...rows));
}

function drawStreams() {
  const pairs = {};
  for (const [name, values] of Object.entries(streams)) {
    pairs[name] = values.reduce((pair, x) => Arithmetic.mergePairs(pair, { max: x, rest: 0 }), Arithmetic.nothing);
    element(`values-${name}`).textContent = values.length ? values.map((x) => shown(x, 1)).join(", ") : "nothing yet";
    element(`pair-${name}`).textContent = `(${shown(pairs[name].max, 1)}, ${shown(pairs[name].rest + 1)})`;
  }
  const both = Arithmetic.mergePairs(pairs.A, pairs.B), whole = Arithmetic.pairOf([...streams.A, ...streams.B]);
  element("merged").replaceChildren(
    made("p", {}, `Merged: (${shown(both.max, 1)}, ${shown(both.rest + 1)}), log-normalizer ${shown(Arithmetic.logNormalizer(both), 6)}`),
    made("p", {}, `All numbers at once: log-normalizer ${shown(Arithmetic.logNormalizer(whole), 6)}`));
}

function stream(name) {
  const next = () => {
    streams[name].push(Math.round((arrivals() * 12 - 6) * 10) / 10);
    drawStreams();
  };
  return made("div", { class: "box" }, made("strong", {}, `Stream ${name}`), made("p", { id: `values-${name}` }),
    made("p", {}, "pair ", made("span", { id: `pair-${name}` })),
    made("button", { type: "button", id: `next-${name}`, onclick: next, "aria-label": `Next number of stream ${name}` }, "Next number"));
}

function drawSamples(row) {
  const keep = Arithmetic.kept(row.probability, state.topK, state.topP);
  const p = row.probability.map((one, j) => (keep[j] ? one : 0)), whole = p.reduce((sum, one) => sum + one, 0);
  const count = 1000, counts = whole > 0 ? Arithmetic.draws(p, count, Arithmetic.generator(state.seed)) : p.map(() => 0);
  element("histogram").replaceChildren(...p.flatMap((one, j) => {
    const share = whole > 0 ? one / whole : 0;
    const meter = made("span", { class: "meter" }, made("i", { style: `width: ${counts[j] / count * 100}%` }), made("b", { style: `left: calc(${share * 100}% - 1px)` }));
    return [made("span", {}, `${j}`), meter, made("span", {}, `${shown(counts[j] / count, 3)} of ${shown(share, 3)}`)];
  }));
}

function draw() {
  const row = Arithmetic.row(state.logits, state.masked, state);
  const loss = Arithmetic.loss(state.logits, state.target, state.masked, state);
  state.logits.forEach((_, j) => drawColumn(j, row, loss));
  for (const [name, , , , , , from] of CONTROLS) {
    element(`control-${name}`).value = from(state[name]);
    element(`value-${name}`).textContent = name === "softcap" && !state.softcap ? "none" : `${state[name]}`;
  }
  for (const [id, name] of [["format", "format"], ["offset", "offset"], ["top-k", "topK"], ["top-p", "topP"], ["library", "library"]]) {
    element(id).value = state[name];
  }
  drawNumbers(row, loss);
  drawPrecision();
  drawSamples(row);
  element("python").textContent = Arithmetic.python(state, state.library);
}

async function copy() {
  try {
    await navigator.clipboard.writeText(element("python").textContent);
    element("copied").textContent = "Copied.";
  } catch {
    getSelection().selectAllChildren(element("python"));
    element("copied").textContent = "Selected: press Ctrl+C.";
  }
}

function begin() {
  element("columns").append(...START.logits.map((_, j) => column(j)));
  element("controls").append(...CONTROLS.map(([name, label, least, most, step, to]) => made("div", { class: "control" },
    made("label", { for: `control-${name}` }, label),
    made("input", { type: "range", id: `control-${name}`, min: least, max: most, step, oninput: (event) => change({ [name]: to(Number(event.target.value)) }) }),
    made("output", { id: `value-${name}`, for: `control-${name}` }))));
  element("streams").append(stream("A"), stream("B"));
  for (const [id, name] of [["format", "format"], ["library", "library"]]) {
    element(id).addEventListener("change", (event) => change({ [name]: event.target.value }));
  }
  for (const [id, name] of [["offset", "offset"], ["top-k", "topK"], ["top-p", "topP"]]) {
    element(id).addEventListener("change", (event) => change({ [name]: Number(event.target.value) }));
  }
  const shift = (by) => change({ logits: state.logits.map((x) => Number((x + by).toFixed(2))) });
  element("add").addEventListener("click", () => shift(1));
  element("subtract").addEventListener("click", () => shift(-1));
  element("reset").addEventListener("click", () => change(structuredClone(START)));
  element("draw").addEventListener("click", () => change({ seed: state.seed + 1 }));
  element("copy").addEventListener("click", copy);
  for (const name of "AABAB") streams[name].push(Math.round((arrivals() * 12 - 6) * 10) / 10);
  draw();
  drawStreams();
}

begin();
