// The arithmetic of the page: a row of logits, its softmax, losses, rounding errors, streams and samples.
// A test runs this file and compares its numbers with those of the library.
"use strict";

const Arithmetic = (() => {
  // -- a row: masked entries are left out, special values are those of the library

  // Logits after the soft cap, less their maximum, divided by the temperature: the maximum is taken off before the
  // division, so that a tiny temperature does not lose digits
  function scaled(logits, masked, options = {}) {
    const { softcap = 0, temperature = 1 } = options;
    const capped = logits.map((x) => (softcap > 0 && x !== -Infinity ? softcap * Math.tanh(x / softcap) : x));
    const { max } = pairOf(capped.filter((_, j) => !masked[j]));
    return { max: max / temperature, below: capped.map((x) => (x - max) / temperature) };
  }

  // The pair (maximum, sum of exp(x - maximum) without one maximum), over entries that take part
  function pairOf(values) {
    let max = -Infinity, rest = 0, found = false;
    for (const x of values) if (Number.isNaN(x) || x > max) max = Number.isNaN(max) ? max : x;
    if (max === -Infinity) return { max, rest: -1 };
    for (const x of values) {
      if (!found && x === max) found = true;
      else rest += Math.exp(x - max);
    }
    return { max, rest };
  }

  const nothing = { max: -Infinity, rest: -1 };

  function mergePairs(a, b) {
    if (a.rest === -1) return b;
    if (b.rest === -1) return a;
    const max = Math.max(a.max, b.max), least = Math.min(a.max, b.max);
    const [first, second] = a.max >= b.max ? [a, b] : [b, a];
    return { max, rest: first.rest + (1 + second.rest) * Math.exp(least - max) };
  }

  const logNormalizer = (pair) => (pair.rest === -1 ? -Infinity : pair.max + Math.log1p(pair.rest));

  function row(logits, masked = [], options = {}) {
    const taking = logits.filter((_, j) => !masked[j]);
    const poisoned = taking.some((x) => Number.isNaN(x) || x === Infinity);
    const all = taking.length === 0, { max, below } = scaled(logits, masked, options);
    const pair = max === -Infinity ? nothing : { max, rest: pairOf(below.filter((_, j) => !masked[j])).rest };
    const undefinedRow = poisoned || (!all && pair.max === -Infinity);
    const probability = below.map((d, j) =>
      masked[j] ? 0 : undefinedRow ? NaN : Math.exp(d) / (1 + pair.rest));
    const logProbability = below.map((d, j) =>
      masked[j] ? -Infinity : undefinedRow ? NaN : d - Math.log1p(pair.rest));
    const log = taking.some(Number.isNaN) ? NaN : poisoned ? Infinity : logNormalizer(pair);
    let entropy = undefinedRow || all ? NaN : 0;
    probability.forEach((p, j) => { if (p > 0) entropy -= p * logProbability[j]; });
    return { pair, probability, logProbability, logNormalizer: log, entropy, perplexity: Math.exp(entropy) };
  }

  // -- the loss of a class id, with label smoothing and z-loss, and its gradient by the logits

  function loss(logits, target, masked = [], options = {}) {
    const { smoothing = 0, zLoss = 0, temperature = 1, softcap = 0 } = options;
    const r = row(logits, masked, options), classes = logits.filter((_, j) => !masked[j]).length;
    if (classes === 0) return { loss: NaN, gradient: logits.map(() => 0), counted: false };
    const q = logits.map((_, j) => (1 - smoothing) * (j === target ? 1 : 0) + (masked[j] ? 0 : smoothing / classes));
    let value = zLoss * r.logNormalizer ** 2;
    if (!zLoss) value = 0;
    q.forEach((share, j) => { if (share > 0) value -= share * r.logProbability[j]; });
    const broken = r.probability.some((p, j) => !masked[j] && Number.isNaN(p));
    if (broken) value = NaN;
    const whole = q.reduce((sum, share) => sum + share, 0);
    const gradient = logits.map((x, j) => {
      if (masked[j] || x === -Infinity) return 0;
      if (broken) return NaN;
      const inner = softcap > 0 ? 1 - Math.tanh(x / softcap) ** 2 : 1;
      const p = r.probability[j];
      return ((p * (whole - q[j]) - q[j] * (1 - p) + 2 * zLoss * r.logNormalizer * p) / temperature) * inner;
    });
    return { loss: value, gradient, counted: true };
  }

  // -- floating-point numbers of 16, 32 and 64 bits

  const FORMATS = { float16: [11, -14, 65504], float32: [24, -126, 3.4028234663852886e38], float64: [53, -1022, Infinity] };

  function exponent(x) {
    let e = Math.floor(Math.log2(Math.abs(x)));
    if (2 ** e > Math.abs(x)) e -= 1;
    if (2 ** (e + 1) <= Math.abs(x)) e += 1;
    return e;
  }

  // The distance between neighbors of x, which is at least the smallest number of the format
  function ulp(x, format) {
    const [digits, least] = FORMATS[format];
    return 2 ** (Math.max(x === 0 ? least : exponent(x), least) - digits + 1);
  }

  function round(x, format) {
    if (format === "float64" || !Number.isFinite(x) || x === 0) return x;
    if (format === "float32") return Math.fround(x);
    const unit = ulp(x, format), steps = x / unit, low = Math.floor(steps), part = steps - low;
    const near = part > 0.5 || (part === 0.5 && low % 2 !== 0) ? low + 1 : low;
    return Math.abs(near * unit) > FORMATS[format][2] ? Math.sign(x) * Infinity : near * unit;
  }

  const sumIn = (values, format) => values.reduce((sum, x) => round(sum + x, format), 0);

  // Ways to compute a softmax, every step rounded to the format of the logits
  const WAYS = {
    naive(x, format) {
      const e = x.map((v) => round(Math.exp(v), format)), sum = sumIn(e, format);
      return e.map((v) => round(v / sum, format));
    },
    normalizer(x, format) {
      const max = Math.max(...x), e = x.map((v) => round(Math.exp(round(v - max, format)), format));
      const log = round(max + round(Math.log(sumIn(e, format)), format), format);
      return x.map((v) => round(Math.exp(round(v - log, format)), format));
    },
    shifted(x, format) {
      const max = Math.max(...x), e = x.map((v) => round(Math.exp(round(v - max, format)), format));
      const sum = sumIn(e, format);
      return e.map((v) => round(v / sum, format));
    },
    // Halves are computed in float32 and rounded once; the rounding error of the difference is kept
    ours(x, format) {
      const inner = format === "float16" ? "float32" : format, max = Math.max(...x);
      const e = x.map((v) => {
        const d = round(v - max, inner), back = round(d + max, inner);
        const error = round(round(v - back, inner) - round(max - round(back - d, inner), inner), inner);
        return round(Math.exp(d) * (1 + error), inner);
      });
      const first = x.indexOf(max), rest = sumIn(e.filter((_, j) => j !== first), inner);
      const sum = round(1 + rest, inner), lost = round(rest - round(sum - 1, inner), inner);
      return e.map((v) => {
        const p = round(v / sum, inner);
        return round(round(p - round((p * lost) / sum, inner), inner), format);
      });
    },
  };

  // -- the exact softmax: whole numbers of BITS binary places

  const BITS = 1400n, ONE = 1n << BITS;

  function fixed(x) {
    if (x === 0) return 0n;
    const e = Math.max(exponent(x) - 52, -1074);
    const whole = BigInt(x / 2 ** e);
    return e >= 0 ? (whole << BITS) << BigInt(e) : (whole << BITS) >> BigInt(-e);
  }

  function exact(d) {
    let term = ONE, sum = ONE;
    const halves = 12n, small = d >> halves;
    for (let n = 1n; term !== 0n && term !== -1n; n += 1n) {
      term = ((term * small) >> BITS) / n;
      sum += term;
    }
    for (let k = 0n; k < halves; k += 1n) sum = (sum * sum) >> BITS;
    return sum;
  }

  // Errors in ulp of probabilities that were computed from the numbers x
  function errors(x, probabilities, format) {
    const whole = x.map(fixed), max = whole.reduce((a, b) => (a > b ? a : b));
    const e = whole.map((v) => exact(v - max)), sum = e.reduce((a, b) => a + b, 0n);
    return probabilities.map((p, j) => {
      if (!Number.isFinite(p)) return NaN;
      const truth = (e[j] << BITS) / sum, unit = ulp(Number(truth >> (BITS - 1000n)) / 2 ** 1000, format);
      const away = fixed(p) - truth, size = away < 0n ? -away : away;
      return Number((size << 20n) / fixed(unit)) / 2 ** 20;
    });
  }

  function precision(logits, format, offset) {
    const x = logits.map((v) => round(round(v, format) + offset, format));
    const result = { inputs: x };
    for (const [name, way] of Object.entries(WAYS)) {
      const p = x.every(Number.isFinite) ? way(x, format) : x.map(() => NaN);
      result[name] = { probability: p, error: x.every(Number.isFinite) ? errors(x, p, format) : p };
    }
    return result;
  }

  // -- samples

  // Which classes top-k and then top-p leave: the lower id first among equals
  function kept(probability, topK, topP) {
    const order = probability.map((_, j) => j).sort((a, b) => probability[b] - probability[a] || a - b);
    const best = topK > 0 ? order.slice(0, topK) : order;
    const whole = best.reduce((sum, j) => sum + probability[j], 0), keep = probability.map(() => false);
    let sum = 0;
    for (const j of best) {
      if (keep[best[0]] && topP < 1 && sum >= topP * whole) break;
      keep[j] = probability[j] > 0;
      sum += probability[j];
    }
    return keep;
  }

  function generator(seed) {
    let state = seed >>> 0;
    return () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = Math.imul(state ^ (state >>> 15), 1 | state);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
  }

  function draws(probability, count, random) {
    const counts = probability.map(() => 0), last = probability.reduce((found, p, j) => (p > 0 ? j : found), 0);
    const whole = probability.reduce((sum, p) => sum + p, 0);
    for (let n = 0; n < count; n += 1) {
      let left = random() * whole, j = 0;
      while (j < last && left >= probability[j]) left -= probability[j++];
      counts[j] += 1;
    }
    return counts;
  }

  // -- the state of the page as a program

  const number = (x, library) =>
    Number.isNaN(x) ? `${library}.nan` : x === Infinity ? `${library}.inf` : x === -Infinity ? `-${library}.inf` : `${x}`;

  function python(state, library = "numpy") {
    const [name, load] = { numpy: ["np", "numpy as np"], torch: ["torch", "torch"], jax: ["jnp", "jax.numpy as jnp"] }[library];
    const make = library === "torch" ? "torch.tensor" : `${name}.asarray`, options = [];
    if (state.masked.some(Boolean)) options.push(`where=${make}([${state.masked.map((m) => (m ? "False" : "True")).join(", ")}])`);
    if (state.softcap > 0) options.push(`softcap=${state.softcap}`);
    if (state.temperature !== 1) options.push(`temperature=${state.temperature}`);
    const common = options.map((option) => `, ${option}`).join(""), extra = [];
    if (state.smoothing > 0) extra.push(`, label_smoothing=${state.smoothing}`);
    if (state.zLoss > 0) extra.push(`, z_loss=${state.zLoss}`);
    const target = library === "jax" ? `jnp.asarray(${state.target})` : library === "torch" ? `torch.tensor(${state.target})` : state.target;
    return [
      `import ${load}`,
      "import logitx as lx",
      "",
      `logits = ${make}([${state.logits.map((x) => (Number.isInteger(x) ? `${x}.0` : number(x, name))).join(", ")}])`,
      `p = lx.softmax(logits${common})`,
      `log_p = lx.log_softmax(logits${common})`,
      `entropy = lx.entropy(logits${common})`,
      `loss, gradient = lx.cross_entropy_value_and_grad(logits, ${target}${common}${extra.join("")})`,
      "",
    ].join("\n");
  }

  return {
    pairOf, nothing, mergePairs, logNormalizer, row, loss, ulp, round, precision, kept, generator, draws, python,
  };
})();

if (typeof module !== "undefined") module.exports = Arithmetic;
