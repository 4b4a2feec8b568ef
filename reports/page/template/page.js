"use strict";
// The sample browser. Blocks of samples are JSON in the page or, behind those, script files that call gapcheckBlock.
(() => {
  const byId = (id) => document.getElementById(id);
  const make = (tag, fields = {}, ...inside) => {
    const element = Object.assign(document.createElement(tag), fields);
    element.append(...inside);
    return element;
  };

  // ---- light and dark
  const root = document.documentElement;
  const theme = byId("theme");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
  const showTheme = () => theme.setAttribute("aria-pressed", String(isDark()));
  try { if (localStorage.gapcheckTheme) root.dataset.theme = localStorage.gapcheckTheme; } catch { /* no storage on disk pages of some browsers */ }
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.gapcheckTheme = root.dataset.theme; } catch { /* as above */ }
    showTheme();
  });
  showTheme();

  const albums = JSON.parse(byId("index").textContent);
  if (!albums.length) return;
  const colors = JSON.parse(byId("colors").textContent);

  // ---- blocks of samples
  const blocks = new Map();
  const waiting = new Map();
  window.gapcheckBlock = (name, block) => {
    blocks.set(name, block);
    (waiting.get(name) || []).forEach(({ done }) => done(block));
    waiting.delete(name);
  };
  const nameOf = (album, at) => `a${album}b${String(Math.floor(at / albums[album].block)).padStart(4, "0")}`;
  function blockOf(name, album) {
    if (!blocks.has(name) && byId(name)) blocks.set(name, JSON.parse(byId(name).textContent));
    if (blocks.has(name)) return Promise.resolve(blocks.get(name));
    return new Promise((done, failed) => {
      if (waiting.has(name)) { waiting.get(name).push({ done, failed }); return; }
      waiting.set(name, [{ done, failed }]);
      const script = make("script", { src: `${albums[album].beside}/${name}.${albums[album].mark}.js` });
      script.addEventListener("error", () => {
        waiting.get(name).forEach((one) => one.failed(new Error(`${script.getAttribute("src")} is not beside this page`)));
        waiting.delete(name);
      });
      document.head.append(script);
    });
  }

  // ---- which samples, in which order
  const MARKS = [["✗", "wrong"], ["✓", "right"], ["–", "not scored"], ["!", "failed"]];
  const state = { album: 0, shown: [], current: -1, visible: 60 };
  const form = byId("filters");
  const option = (value, text) => make("option", { value, textContent: text });

  function fillFilters() {
    const album = albums[state.album];
    const models = album.members;
    form.task.replaceChildren(option("", "all"), ...[...new Set(album.task)].sort().map((t) => option(t, t)));
    const verdicts = [option("", "all")];
    if (models.length > 1) verdicts.push(option("differ", "models differ"), option("right", "all right"), option("wrong", "all wrong"));
    models.forEach((m, i) => verdicts.push(option(`${i}1`, `${m.label} right`), option(`${i}0`, `${m.label} wrong`)));
    if (album.verdicts.some((v) => v.includes(3))) verdicts.push(option("failed", "failed"));
    form.verdict.replaceChildren(...verdicts);
    const words = [...new Set(album.word)].filter(Boolean).sort();
    form.word.replaceChildren(option("", "any word"), ...words.map((w) => option(w, `a word of kind ${w}`)));
    form.querySelector(".needs-words").hidden = !words.length;
    const orders = [option("telling", "most telling first")];
    if (album.kl.some((v) => v !== null)) orders.push(option("kl", "largest disagreement (KL)"), option("-kl", "smallest disagreement"));
    models.forEach((m, i) => {
      if (album.focuss[i].some((v) => v !== null)) orders.push(option(`focus${i}`, `lowest focus of ${m.label}`));
    });
    form.order.replaceChildren(...orders);
    byId("chosen").textContent = "Most telling first: within each task where the verdicts differ and the maps are farthest apart, then "
      + "where answers are wrong; tasks take turns. The shares seen here are those of this choice, not of the run.";
  }

  const TESTS = {
    differ: (v) => v.includes(1) && v.includes(0), right: (v) => v.every((x) => x === 1),
    wrong: (v) => v.every((x) => x === 0), failed: (v) => v.includes(3),
  };

  function applyFilters() {
    const album = albums[state.album];
    const verdict = form.verdict.value;
    const find = form.find.value.trim().toLowerCase();
    const found = [];
    for (let i = 0; i < album.id.length; i++) {
      if (form.task.value && album.task[i] !== form.task.value) continue;
      if (form.word.value && album.word[i] !== form.word.value) continue;
      if (find && !album.question[i].toLowerCase().includes(find) && !album.id[i].toLowerCase().includes(find)) continue;
      if (verdict) {
        const mine = album.verdicts.map((v) => v[i]);
        const good = TESTS[verdict] ? TESTS[verdict](mine) : mine[verdict.slice(0, -1)] === Number(verdict.slice(-1));
        if (!good) continue;
      }
      found.push(i);
    }
    const order = form.order.value;
    const values = order.endsWith("kl") ? album.kl : order.startsWith("focus") ? album.focuss[Number(order.slice(5))] : null;
    const sign = order === "kl" ? -1 : 1;
    if (values) found.sort((a, b) => (values[a] === null) - (values[b] === null) || sign * (values[a] - values[b]) || a - b);
    state.shown = found;
    state.visible = 60;
    byId("count").textContent = `${found.length.toLocaleString("en")} of ${album.id.length.toLocaleString("en")} samples here`;
    drawList();
    if (found.length) open(0, false);
    else clearDetail();
  }

  function marks(album, i) {
    return album.members.map((m, k) => {
      const [sign, word] = MARKS[album.verdicts[k][i]];
      const mark = make("span", { className: `mark ${word}`, textContent: sign, title: `${m.label}: ${word}` });
      mark.setAttribute("aria-label", `${m.label} ${word}`);
      mark.setAttribute("role", "img");
      return mark;
    });
  }

  function drawList() {
    const album = albums[state.album];
    const rows = state.shown.slice(0, state.visible).map((i, place) => {
      const kl = album.kl[i] === null ? "" : `KL ${album.kl[i].toFixed(2)}`;
      const blank = make("span", { className: "blank" });
      const button = make("button", { type: "button" }, blank,
        make("span", { className: "q", textContent: album.question[i] }),
        make("span", { className: "m task", textContent: album.task[i] }),
        make("span", { className: "m verdicts" }, ...marks(album, i).flatMap((mark) => [mark, " "]), kl));
      button.dataset.place = place;
      button.addEventListener("click", () => open(place, true));
      const name = nameOf(state.album, i);
      if (blocks.has(name) || byId(name)) blockOf(name, state.album).then((block) => {
        const src = block.samples[i % album.block].images[0]?.src;
        if (src) blank.replaceWith(make("img", { src, alt: "", loading: "lazy" }));
      });
      return make("li", {}, button);
    });
    byId("list").replaceChildren(...rows);
    const rest = state.shown.length - state.visible;
    byId("more").hidden = rest <= 0;
    byId("more").textContent = `${Math.min(rest, 60)} more of ${rest.toLocaleString("en")}`;
  }

  byId("more").addEventListener("click", () => {
    const first = state.visible;
    state.visible += 60;
    drawList();
    markCurrent();
    byId("list").children[first]?.firstChild.focus();
  });
  byId("list").addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || event.target.dataset.place === undefined) return;
    event.preventDefault();
    const next = byId("list").children[Number(event.target.dataset.place) + step];
    if (next) { next.firstChild.focus(); open(Number(next.firstChild.dataset.place), false); }
  });

  function markCurrent() {
    // One tab stop for the whole list; arrow keys move in it.
    for (const { firstChild: button } of byId("list").children) {
      const current = Number(button.dataset.place) === state.current;
      button.setAttribute("aria-current", String(current));
      button.tabIndex = current ? 0 : -1;
    }
  }

  // ---- one sample
  let sample = null;
  let word = { text: "whole", at: -1 };
  let pinned = { text: "whole", at: -1 };
  let panels = [];

  function clearDetail() {
    state.current = -1;
    sample = null;
    for (const id of ["question", "asked", "place", "said", "largest"]) byId(id).textContent = "";
    byId("question").textContent = "No sample passes these filters.";
    byId("panels").replaceChildren();
    byId("shared").replaceChildren();
    byId("previous").disabled = byId("next").disabled = true;
  }

  async function open(place, focus) {
    const album = albums[state.album];
    const i = state.shown[place];
    state.current = place;
    markCurrent();
    byId("previous").disabled = place === 0;
    byId("next").disabled = place === state.shown.length - 1;
    const wanted = state.album;
    let block;
    try { block = await blockOf(nameOf(state.album, i), state.album); } catch (error) {
      if (state.current !== place || state.album !== wanted) return;
      clearDetail();
      byId("question").textContent = `${error.message}: keep the folder next to the page.`;
      state.current = place;
      byId("previous").disabled = place === 0;
      byId("next").disabled = place === state.shown.length - 1;
      return;
    }
    if (state.current !== place || state.album !== wanted || state.shown[place] !== i) return;
    sample = { at: i, album, shapes: block.shapes, ...block.samples[i % album.block] };
    byId("question").textContent = sample.question;
    const options = sample.options.length ? `\nOptions: ${sample.options.join(" · ")}` : "";
    byId("asked").textContent = `Reference: ${sample.reference || "none"}${options}`;
    byId("place").textContent = `${place + 1} of ${state.shown.length} · ${album.task[i]} · ${album.id[i]}`;
    word = pinned = { text: "whole", at: -1 };
    byId("said").textContent = "";
    drawTexts();
    drawPanels();
    paint();
    if (focus) byId("detail").focus({ preventScroll: true });
  }

  function wordButtons(text, name, label) {
    const row = make("div", { className: "text" });
    row.setAttribute("role", "group");
    row.setAttribute("aria-label", label);
    if (!text) return row;
    text.words.forEach((w, at) => {
      if (at >= text.maps.scale.length) { row.append(make("span", { className: "plain", textContent: w })); return; }
      const button = make("button", { type: "button", textContent: w, title: `${text.categories[at]} word` });
      button.dataset.category = text.categories[at];
      button.dataset.text = name;
      button.dataset.at = at;
      button.setAttribute("aria-pressed", "false");
      const here = { text: name, at };
      button.addEventListener("mouseenter", () => show(here));
      button.addEventListener("focus", () => show(here));
      button.addEventListener("mouseleave", () => show(pinned));
      button.addEventListener("blur", () => show(pinned));
      button.addEventListener("click", () => { pinned = same(pinned, here) ? { text: "whole", at: -1 } : here; show(pinned); });
      button.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        const next = step && row.querySelector(`[data-at="${at + step}"]`);
        if (next) { event.preventDefault(); next.focus(); }
      });
      row.append(button);
    });
    return row;
  }

  const same = (a, b) => a.text === b.text && a.at === b.at;

  function drawTexts() {
    const holder = sample.models.find((m) => m.shared);
    byId("shared").replaceChildren();
    if (!holder) return;
    const several = sample.models.length > 1;
    const teacher = sample.album.members.find((m) => m.role === "teacher");
    const row = wordButtons(holder.shared, "shared", several ? "The text that all models are read on" : "The answer");
    row.prepend(make("span", { className: "of", textContent: teacher ? "One text for all, word by word:" : "The answer, word by word:" }));
    const legend = make("p", { className: "legend" }, "Hover or focus a word, click to keep it, Escape for the whole text.");
    for (const [kind, color] of [["functional", "#949494"], ["object", "#0173b2"], ["attribute", "#de8f05"]]) {
      const b = make("b", { textContent: kind });
      b.style.borderColor = color;
      legend.append(" ", b);
    }
    byId("shared").append(row, legend);
  }

  function drawPanels() {
    const { album, at } = sample;
    panels = sample.models.map((model, m) => {
      const about = album.members[m];
      const [sign, verdict] = MARKS[album.verdicts[m][at]];
      const name = make("b", { textContent: about.label });
      name.style.borderBottom = `3px solid ${about.color}`;
      const mark = make("span", { className: `mark ${verdict}`, textContent: `${sign} ${verdict}` });
      const pictures = make("div", { className: "pictures" });
      const canvases = sample.images.map((image, k) => {
        const canvas = make("canvas", { width: 384, height: Math.max(8, Math.round(384 / Math.min(8, Math.max(0.2, image.ratio)))) });
        canvas.setAttribute("role", "img");
        canvas.dataset.image = k;
        pictures.append(canvas);
        return canvas;
      });
      const numbers = make("p", { className: "numbers" });
      const panel = make("section", { className: "panel" }, make("header", {}, name, mark), pictures, numbers,
        make("p", { className: "answer", textContent: model.error ? `failed: ${model.error}` : model.answer || "(empty answer)" }));
      panel.setAttribute("aria-label", `${about.label}, ${verdict}`);
      if (model.own) {
        const own = wordButtons(model.own, `own${m}`, `The answer of ${about.label}, word by word`);
        own.prepend(make("span", { className: "of", textContent: "its own words:" }));
        panel.append(own);
      }
      return { panel, canvases, numbers, model, about, m };
    });
    const picture = make("section", { className: "panel" }, make("header", {}, make("b", { textContent: "picture" }), make("span", { className: "fine", textContent: sample.boxes.length ? "reference boxes" : "no boxes" })));
    picture.setAttribute("aria-label", "The picture with its reference boxes");
    const pictures = make("div", { className: "pictures" });
    const canvases = panels.length ? panels[0].canvases.map((c) => make("canvas", { width: c.width, height: c.height })) : [];
    canvases.forEach((c, k) => { c.setAttribute("role", "img"); c.setAttribute("aria-label", `picture ${k + 1}`); });
    pictures.append(...canvases);
    picture.append(pictures);
    byId("panels").replaceChildren(picture, ...panels.map((p) => p.panel));
    const drawn = sample;
    sample.images.forEach((image, k) => {
      if (!image.src) {
        canvases[k].replaceWith(make("div", { className: "lost", textContent: `the picture ${sample.lost}` }));
        return;
      }
      const file = new Image();
      file.addEventListener("load", () => {
        if (drawn !== sample) return;
        image.file = file;
        const c = canvases[k];
        c.getContext("2d").drawImage(file, 0, 0, c.width, c.height);
        outline(c, k);
        paint();
      });
      file.src = image.src;
    });
  }

  function outline(canvas, k) {
    const pen = canvas.getContext("2d");
    for (const [x0, y0, x1, y1, image] of sample.boxes) {
      if (image !== k) continue;
      for (const [color, width] of [["#000a", 5], ["#2ee6a8", 2.5]]) {
        pen.strokeStyle = color;
        pen.lineWidth = width;
        pen.strokeRect(x0 * canvas.width, y0 * canvas.height, (x1 - x0) * canvas.width, (y1 - y0) * canvas.height);
      }
    }
  }

  // ---- maps
  const decoded = new WeakMap();
  function bytesOf(maps) {
    if (!decoded.has(maps)) decoded.set(maps, Uint8Array.from(atob(maps.data), (c) => c.charCodeAt(0)));
    return decoded.get(maps);
  }
  // Weights of one row of maps, summing to 1; null where undefined.
  function weights(maps, row) {
    if (!maps || maps.scale[row] === null || maps.scale[row] === undefined) return null;
    const bytes = bytesOf(maps);
    const n = bytes.length / maps.scale.length;
    const found = new Float64Array(n);
    let total = 0;
    for (let j = 0; j < n; j++) { found[j] = (bytes[row * n + j] / 255) ** 2; total += found[j]; }
    for (let j = 0; j < n; j++) found[j] /= total;
    return found;
  }
  // The map that a model shows for a word: that word's, or the whole text's where it has none.
  function chosen(model, m) {
    if (model.error || model.shape === undefined) return null;
    const text = word.text === "shared" ? model.shared : word.text === `own${m}` ? model.own : null;
    return text && word.at < text.maps.scale.length ? weights(text.maps, word.at) : weights(model.whole, 0);
  }
  // Density over each picture, 1 = even over all pictures; tokens may overlap, so they are added up cell by cell.
  function density(values, shape, pictures) {
    if (shape.rows) return Array.from({ length: pictures }, (_, k) => ({
      rows: shape.rows, cols: shape.cols, cells: Float64Array.from(values, (v) => (k ? 0 : v * values.length * pictures)),
    }));
    const side = 96;
    const found = Array.from({ length: pictures }, () => ({ rows: side, cols: side, cells: new Float64Array(side * side) }));
    for (let t = 0; t < values.length; t++) {
      const [x0, y0, x1, y1] = shape.boxes.slice(4 * t, 4 * t + 4);
      if (x1 <= x0 || y1 <= y0 || !found[shape.images[t]]) continue;
      const left = Math.min(side - 1, Math.round(x0 * side));
      const top = Math.min(side - 1, Math.round(y0 * side));
      const right = Math.max(left + 1, Math.round(x1 * side));
      const bottom = Math.max(top + 1, Math.round(y1 * side));
      const each = (values[t] / ((right - left) * (bottom - top))) * side * side * pictures;
      const { cells } = found[shape.images[t]];
      for (let r = top; r < bottom; r++) for (let c = left; c < right; c++) cells[r * side + c] += each;
    }
    return found;
  }

  function paint() {
    if (!sample) return;
    const maps = panels.map(({ model, m }) => {
      const values = chosen(model, m);
      return values && density(values, sample.shapes[model.shape], sample.images.length);
    });
    let largest = 4; // as in the figures: a nearly uniform map looks nearly uniform
    for (const map of maps) for (const picture of map || []) for (const v of picture.cells) if (v > largest) largest = v;
    byId("largest").textContent = largest.toPrecision(3);
    panels.forEach((panel, p) => {
      panel.canvases.forEach((canvas, k) => {
        paintOne(canvas, sample.images[k], maps[p] && maps[p][k], largest);
        outline(canvas, k);
        canvas.setAttribute("aria-label", spoken(panel, maps[p]));
      });
      panel.numbers.textContent = numbersOf(panel);
    });
    for (const button of byId("detail").querySelectorAll("button[data-text]")) {
      const here = { text: button.dataset.text, at: Number(button.dataset.at) };
      button.setAttribute("aria-pressed", String(same(pinned, here)));
      button.classList.toggle("shown", same(word, here));
    }
  }

  function paintOne(canvas, image, map, largest) {
    const pen = canvas.getContext("2d");
    pen.globalAlpha = 1;
    pen.fillStyle = "#808080";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    if (image.file) {
      pen.drawImage(image.file, 0, 0, canvas.width, canvas.height);
      // Without colour and dimmed, so that attention is the only colour; by blending, as Safari has no canvas filter.
      for (const [mode, shade] of [["saturation", "#000"], ["multiply", "#999"]]) {
        pen.globalCompositeOperation = mode;
        pen.fillStyle = shade;
        pen.fillRect(0, 0, canvas.width, canvas.height);
      }
      pen.globalCompositeOperation = "source-over";
    }
    if (!map) {
      pen.fillStyle = "#fff";
      pen.font = "16px sans-serif";
      pen.textAlign = "center";
      pen.fillText("no map", canvas.width / 2, canvas.height / 2);
      return;
    }
    const small = make("canvas", { width: map.cols, height: map.rows });
    const pixels = small.getContext("2d").createImageData(map.cols, map.rows);
    map.cells.forEach((v, j) => {
      if (v < 1) return; // less than even is not painted
      const x = Math.log(v) / Math.log(largest);
      pixels.data.set([...colors[Math.min(31, Math.floor(32 * x))], 255 * (0.25 + 0.65 * x ** 0.7)], 4 * j);
    });
    small.getContext("2d").putImageData(pixels, 0, 0);
    pen.imageSmoothingEnabled = byId("smooth").checked;
    pen.drawImage(small, 0, 0, canvas.width, canvas.height);
  }

  const percent = (v) => (v === null || v === undefined ? "undefined" : `${(100 * v).toFixed(1)} %`);
  function numbersOf({ model, m }) {
    const { album, at } = sample;
    if (model.error) return "";
    const text = word.text === "shared" ? model.shared : word.text === `own${m}` ? model.own : null;
    if (text && word.at < text.words.length) {
      const kl = text.kl[word.at];
      return `“${text.words[word.at]}”: focus ${percent(text.focus[word.at])}${kl === null ? "" : ` · KL ${kl.toFixed(2)}`}`;
    }
    const kl = album.kls[m][at];
    return `own answer: focus ${percent(album.focuss[m][at])}${kl === null ? "" : `; on the shared text: KL ${kl.toFixed(2)} nats`}`;
  }
  // The place of the largest density in words, for those who do not see the picture.
  function spoken({ about, model }, map) {
    if (model.error) return `${about.label}: failed`;
    if (!map) return `${about.label}: no map`;
    let best = { v: -1 };
    map.forEach((p, k) => p.cells.forEach((v, j) => { if (v > best.v) best = { v, k, x: ((j % p.cols) + 0.5) / p.cols, y: (Math.floor(j / p.cols) + 0.5) / p.rows }; }));
    const across = ["left", "centre", "right"][Math.min(2, Math.floor(3 * best.x))];
    const down = ["top", "middle", "bottom"][Math.min(2, Math.floor(3 * best.y))];
    return `${about.label}: looks most at the ${down} ${across}${map.length > 1 ? ` of picture ${best.k + 1}` : ""}, ${best.v.toPrecision(2)} times even`;
  }

  function show(which) {
    if (!sample || same(word, which)) { if (sample) paint(); return; }
    word = which;
    paint();
    const label = word.at < 0 ? "Whole text" : `“${textOf(word).words[word.at]}” (${textOf(word).categories[word.at]})`;
    byId("said").textContent = `${label}: ${panels.map((p) => `${p.about.label} ${p.numbers.textContent.replace(/^[^:]*: /, "")}`).join("; ")}`;
  }
  const textOf = (which) => (which.text === "shared" ? sample.models.find((m) => m.shared).shared : sample.models[Number(which.text.slice(3))].own);

  // ---- controls
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && sample) { pinned = { text: "whole", at: -1 }; show(pinned); }
  });
  const step = (by) => {
    const place = state.current + by;
    if (place < 0 || place >= state.shown.length) return;
    if (place >= state.visible) { state.visible = place + 1; drawList(); }
    open(place, false);
    byId("list").children[place]?.scrollIntoView({ block: "nearest" });
  };
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("smooth").addEventListener("change", paint);
  form.addEventListener("input", (event) => {
    if (event.target === form.album) { state.album = Number(form.album.value); form.find.value = ""; fillFilters(); }
    applyFilters();
  });
  form.addEventListener("submit", (event) => event.preventDefault());

  const bar = byId("scale").getContext("2d");
  for (let x = 0; x < 160; x++) { bar.fillStyle = `rgb(${colors[Math.floor((32 * x) / 160)]})`; bar.fillRect(x, 0, 1, 10); }
  form.album.replaceChildren(...albums.map((a, i) => option(i, a.title)));
  form.querySelector(".album").hidden = albums.length < 2;
  fillFilters();
  applyFilters();
})();
