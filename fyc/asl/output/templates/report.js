// The page of a video: tiers and curves over one axis of time, in step with its pictures. No library, no network.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const GAP = -32768, AXIS = 24, TIER = 22, PANEL = 92, LEAST_SPAN = 0.2, MARK = 7;

  function bytes(text) {
    return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
  }
  // What was packed is little-endian, as are all machines that browsers run on.
  const times = Float64Array.from(new Uint32Array(bytes(data.times)), (tick) => tick / data.ticks);
  const frames = times.length, step = frames > 1 ? (times[frames - 1] - times[0]) / (frames - 1) : 0.04;
  const whole = { from: times[0], to: times[frames - 1] + step };
  const panels = data.panels.map((panel) => ({
    ...panel,
    curves: panel.curves.map((curve) => ({ ...curve, shown: true, values: new Int16Array(bytes(curve.values)) })),
  }));
  const tiers = data.tiers.filter((tier) => tier.spans.length);
  const doubtful = data.tiers.filter((tier) => tier.track).flatMap((tier) => tier.spans);
  const labels = [...new Set(tiers.filter((tier) => !tier.track).flatMap((tier) => tier.spans.map((span) => span[2])))];
  const view = { ...whole };
  let current = 0, hovered = null, playing = false, colours = {}, waiting = false, stale = true;

  // Numbers and times

  function frameAt(time) { // the last frame that begins at or before a time
    let low = 0, high = frames - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (times[middle] <= time + 1e-6) low = middle; else high = middle - 1;
    }
    return low;
  }
  const clock = (time) => `${Math.floor(time / 60)}:${(time % 60).toFixed(3).padStart(6, "0")}`;
  function valueOf(panel, curve, frame) {
    const raw = curve.values[frame];
    return raw === GAP ? "–" : (raw * panel.step).toFixed(2);
  }
  function activeAt(frame) {
    const at = Math.round(times[frame] * 1000);
    return tiers.flatMap((tier) => tier.spans.filter(([start, end]) => start <= at && at < end).map((span) => span[2]));
  }

  // Pictures and videos

  const pictures = data.pictures, loaded = new Map(), STRIP = pictures.frames.length ? 58 : 0;
  function pictureOf(frame) { // number of the last picture at or before a frame
    let low = 0, high = pictures.frames.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (pictures.frames[middle] <= frame) low = middle; else high = middle - 1;
    }
    return pictures.frames[low] <= frame ? low : null;
  }
  const pictureUrl = (number) => `data:image/jpeg;base64,${pictures.jpegs[number]}`;
  function loadedPicture(number) {
    if (!loaded.has(number)) {
      const image = new Image();
      image.onload = redraw;
      image.src = pictureUrl(number);
      loaded.set(number, image);
    }
    return loaded.get(number);
  }
  const video = $("video"), sources = [...data.sources];
  let source = null;
  function nextSource() {
    source = sources.shift() || null;
    if (source) video.src = source.url; else video.removeAttribute("src");
    show();
  }
  const hasVideo = () => source !== null && video.readyState >= 1;
  video.addEventListener("error", nextSource);
  video.addEventListener("loadedmetadata", () => { video.hidden = false; $("picture").hidden = true; seekVideo(); show(); });
  video.addEventListener("ended", () => setPlaying(false));
  function seekVideo() { // into the middle of the frame, so that rounding shows no other one
    const end = current + 1 < frames ? times[current + 1] : times[current] + step;
    if (hasVideo()) video.currentTime = (times[current] + end) / 2;
  }

  // Moving about

  function seek(frame, follow = true) {
    current = Math.max(0, Math.min(frames - 1, frame));
    if (!playing || follow) seekVideo();
    if (times[current] < view.from || times[current] >= view.to) {
      const span = view.to - view.from;
      setView(times[current] - span / 10, times[current] + 0.9 * span);
    }
    show();
  }
  function setView(from, to) {
    const span = Math.min(Math.max(to - from, Math.min(LEAST_SPAN, whole.to - whole.from)), whole.to - whole.from);
    view.from = Math.max(whole.from, Math.min(from, whole.to - span));
    view.to = view.from + span;
    stale = true;
    show();
  }
  function zoom(factor, at) {
    const place = at === undefined ? times[current] : at;
    const centre = place >= view.from && place < view.to ? place : (view.from + view.to) / 2;
    setView(centre - (centre - view.from) * factor, centre + (view.to - centre) * factor);
  }
  function setPlaying(on) {
    playing = on;
    $("play").textContent = on ? "pause" : "play";
    if (!on) { video.pause(); seekVideo(); return; }
    if (current === frames - 1) seek(0);
    const begin = performance.now(), first = times[current], moving = hasVideo();
    if (moving) video.play().catch(() => setPlaying(false));
    requestAnimationFrame(function tick(now) {
      if (!playing) return;
      seek(frameAt(moving ? video.currentTime : first + Math.max(0, now - begin) / 1000), false);
      if (current === frames - 1) setPlaying(false); else requestAnimationFrame(tick);
    });
  }

  // Drawing

  const layer = document.createElement("canvas"); // all but the cursors, which move more often than the rest changes
  const plot = $("plot"), overview = $("overview"), gutter = $("gutter"), tip = $("tip");
  const height = AXIS + STRIP + TIER * tiers.length + PANEL * panels.length;
  function canvas(element, width, tall) {
    const ratio = window.devicePixelRatio || 1;
    element.style.width = `${width}px`;
    element.style.height = `${tall}px`;
    element.width = Math.round(width * ratio);
    element.height = Math.round(tall * ratio);
    const pen = element.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.font = `11px ${getComputedStyle(document.body).fontFamily}`;
    pen.textBaseline = "middle";
    return pen;
  }
  function readColours() {
    const style = getComputedStyle(document.documentElement);
    const names = ["paper", "ink", "faint", "line", "grid", "left", "right", "third", "mouth", "grey", "cursor", "hatch"];
    for (let number = 0; number < MARK; number++) names.push(`m${number}`);
    colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  }
  function hatch(pen) {
    const tile = document.createElement("canvas");
    tile.width = tile.height = 8;
    const inner = tile.getContext("2d");
    inner.strokeStyle = colours.hatch;
    inner.beginPath();
    for (const shift of [-8, 0, 8]) { inner.moveTo(shift - 1, 9); inner.lineTo(shift + 9, -1); }
    inner.stroke();
    return pen.createPattern(tile, "repeat");
  }
  const colourOf = (label) => colours[`m${labels.indexOf(label) % MARK}`];

  function draw() {
    if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; paint(); }); }
  }
  function redraw() {
    stale = true;
    draw();
  }
  function paint() {
    const width = Math.max(60, plot.parentElement.clientWidth), scale = width / (view.to - view.from);
    const x = (time) => (time - view.from) * scale;
    if (stale) paintLayer(x, width);
    stale = false;
    const pen = canvas(plot, width, height);
    pen.drawImage(layer, 0, 0, width, height);
    drawCursor(pen, x(times[current]), colours.cursor, 1.5);
    if (hovered !== null && hovered !== current) drawCursor(pen, x(times[hovered]), colours.faint, 1);
    drawDots(pen, x, hovered === null ? current : hovered);
    paintOverview();
  }
  function paintLayer(x, width) {
    const pen = canvas(layer, width, height);
    drawAxis(pen, x, width);
    drawStrip(pen, x, width);
    let top = AXIS + STRIP;
    for (const tier of tiers) { drawTier(pen, tier, x, width, top); top += TIER; }
    for (const panel of panels) { drawPanel(pen, panel, x, width, top); top += PANEL; }
  }
  function drawAxis(pen, x, width) {
    const steps = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600];
    const wanted = ((view.to - view.from) * 84) / width, tick = steps.find((each) => each >= wanted) || 7200;
    for (let number = Math.ceil(view.from / tick - 1e-9); number * tick < view.to; number++) {
      const at = number * tick, place = Math.round(x(at)) + 0.5;
      line(pen, place, AXIS - 6, place, height, colours.grid);
      line(pen, place, AXIS - 6, place, AXIS, colours.faint);
      const text = clock(at).slice(0, tick >= 1 ? -4 : -1);
      const half = pen.measureText(text).width / 2;
      pen.fillStyle = colours.faint;
      pen.fillText(text, Math.max(2, Math.min(width - 2 * half - 2, place - half)), AXIS / 2 - 2);
    }
  }
  function drawStrip(pen, x, width) {
    line(pen, 0, AXIS + 0.5, width, AXIS + 0.5, colours.line);
    if (!STRIP) return;
    const pictureAt = (time) => { // while it is decoded, the nearest before it that is
      let number = pictureOf(frameAt(time)) ?? 0;
      const image = loadedPicture(number);
      while (number > 0 && !(loaded.has(number) && loaded.get(number).naturalWidth)) number--;
      return loaded.has(number) && loaded.get(number).naturalWidth ? loaded.get(number) : image;
    };
    const first = pictureAt(view.from);
    if (!first.naturalWidth) return;
    const tall = STRIP - 6, wide = (first.naturalWidth * tall) / first.naturalHeight;
    for (let left = 0; left < width; left += wide + 2) {
      const time = view.from + ((left + wide / 2) / width) * (view.to - view.from);
      const image = pictureAt(time);
      if (image.naturalWidth) pen.drawImage(image, left, AXIS + 3, wide, tall);
    }
  }
  function drawTier(pen, tier, x, width, top) {
    line(pen, 0, top + 0.5, width, top + 0.5, colours.line);
    for (const [start, end, label] of tier.spans) {
      const left = Math.max(-2, x(start / 1000)), right = Math.min(width + 2, x(end / 1000));
      if (right < 0 || left > width) continue;
      const wide = Math.max(1.5, right - left - 1);
      pen.fillStyle = tier.track ? hatch(pen) : colourOf(label);
      pen.fillRect(left, top + 3, wide, TIER - 5);
      const across = pen.measureText(label).width;
      if (across + 8 > right - left) continue;
      if (tier.track) { pen.fillStyle = colours.paper; pen.fillRect(left + 2, top + 4, across + 6, TIER - 7); }
      pen.fillStyle = tier.track ? colours.ink : colourOf(label) === colours.m4 ? "#fff" : "#000";
      pen.fillText(label, Math.max(left, 0) + 5, top + TIER / 2 + 1);
    }
  }
  function drawPanel(pen, panel, x, width, top) {
    const [low, high] = panel.range, y = (value) => top + 8 + ((high - value) / (high - low)) * (PANEL - 16);
    pen.fillStyle = hatch(pen);
    pen.globalAlpha = 0.45;
    for (const [start, end] of doubtful) pen.fillRect(x(start / 1000), top, (end - start) / 1000 * (width / (view.to - view.from)), PANEL);
    pen.globalAlpha = 1;
    for (const value of new Set([low, low < 0 && high > 0 ? 0 : (low + high) / 2, high])) {
      line(pen, 0, Math.round(y(value)) + 0.5, width, Math.round(y(value)) + 0.5, value === 0 ? colours.line : colours.grid);
    }
    line(pen, 0, top + 0.5, width, top + 0.5, colours.line);
    pen.save();
    pen.beginPath();
    pen.rect(0, top, width, PANEL);
    pen.clip();
    for (const curve of panel.curves) if (curve.shown) drawCurve(pen, curve, x, (raw) => y(raw * panel.step), width);
    pen.restore();
    for (const value of [low, high]) {
      pen.fillStyle = colours.paper;
      pen.globalAlpha = 0.75;
      pen.fillRect(1, y(value) - 6, pen.measureText(String(value)).width + 6, 12);
      pen.globalAlpha = 1;
      pen.fillStyle = colours.faint;
      pen.fillText(String(value).replace("-", "−"), 4, y(value));
    }
  }
  // Where several frames share a column of pixels, their lowest and highest values are drawn: no peak is lost.
  function drawCurve(pen, curve, x, y, width) {
    const first = Math.max(0, frameAt(view.from) - 1), last = Math.min(frames - 1, frameAt(view.to) + 1);
    let column = null, low = 0, high = 0, end = 0, down = false, began = 0, points = 0;
    pen.strokeStyle = pen.fillStyle = colours[curve.colour];
    pen.lineWidth = 1.5;
    pen.beginPath();
    const flush = () => {
      if (column === null) return;
      if (down) pen.lineTo(column, y(low)); else { pen.moveTo(column, y(low)); began = column; points = 0; }
      if (high !== low) { pen.lineTo(column, y(high)); pen.lineTo(column, y(end)); }
      down = true;
      points += 1;
      column = null;
    };
    const lift = () => { // a value between two gaps is a dot
      flush();
      if (down && points === 1) { pen.lineTo(began + 1, y(end)); }
      down = false;
    };
    const dense = last - first > 2 * width;
    for (let frame = first; frame <= last; frame++) {
      const raw = curve.values[frame];
      if (raw === GAP) { lift(); continue; }
      const place = dense ? Math.floor(x(times[frame])) + 0.5 : x(times[frame]);
      if (place !== column) { flush(); column = place; low = high = raw; }
      low = Math.min(low, raw);
      high = Math.max(high, raw);
      end = raw;
    }
    lift();
    pen.stroke();
  }
  function drawDots(pen, x, frame) {
    let top = AXIS + STRIP + TIER * tiers.length;
    for (const panel of panels) {
      const [low, high] = panel.range;
      for (const curve of panel.curves) {
        const value = curve.values[frame] * panel.step;
        if (!curve.shown || curve.values[frame] === GAP || value < low || value > high) continue;
        pen.fillStyle = colours[curve.colour];
        pen.beginPath();
        pen.arc(x(times[frame]), top + 8 + ((high - value) / (high - low)) * (PANEL - 16), 3, 0, 7);
        pen.fill();
      }
      top += PANEL;
    }
  }
  function drawCursor(pen, place, colour, wide) {
    line(pen, place, AXIS - 8, place, height, colour, wide);
    pen.fillStyle = colour;
    pen.beginPath();
    pen.moveTo(place - 5, AXIS - 10);
    pen.lineTo(place + 5, AXIS - 10);
    pen.lineTo(place, AXIS - 2);
    pen.fill();
  }
  function line(pen, x1, y1, x2, y2, colour, wide = 1) {
    pen.strokeStyle = colour;
    pen.lineWidth = wide;
    pen.beginPath();
    pen.moveTo(x1, y1);
    pen.lineTo(x2, y2);
    pen.stroke();
  }
  function paintOverview() {
    const width = overview.parentElement.clientWidth, pen = canvas(overview, width, 26);
    const x = (time) => ((time - whole.from) / (whole.to - whole.from)) * width;
    pen.fillStyle = colours.grid;
    pen.fillRect(0, 0, width, 26);
    tiers.forEach((tier, number) => {
      const tall = Math.min(8, 22 / tiers.length);
      for (const [start, end, label] of tier.spans) {
        pen.fillStyle = tier.track ? colours.hatch : colourOf(label);
        pen.fillRect(x(start / 1000), 2 + number * tall, Math.max(1, x(end / 1000) - x(start / 1000)), Math.max(1, tall - 1));
      }
    });
    pen.strokeStyle = colours.ink;
    pen.lineWidth = 2;
    pen.strokeRect(x(view.from) + 1, 1, Math.max(4, x(view.to) - x(view.from) - 2), 24);
    line(pen, x(times[current]), 0, x(times[current]), 26, colours.cursor, 1.5);
  }

  // Words

  const outputs = [];
  function build() {
    const make = (parent, name, className, text) => {
      const element = parent.appendChild(document.createElement(name));
      element.className = className;
      if (text !== undefined) element.textContent = text;
      return element;
    };
    const row = (name, className, tall, text) => {
      const element = make(gutter, name, className, text);
      element.style.height = `${tall}px`;
      return element;
    };
    row("div", "name", AXIS, "min:s");
    if (STRIP) row("div", "name", STRIP, "pictures");
    for (const tier of tiers) row("div", "name", TIER, tier.name).title = tier.name;
    for (const panel of panels) {
      const group = row("fieldset", "panel", PANEL);
      group.setAttribute("aria-label", panel.title);
      make(group, "span", "title", panel.title);
      make(group.lastChild, "span", "", panel.unit && `  ${panel.unit}`);
      for (const curve of panel.curves) {
        const label = make(group, "label", curve.colour), box = make(label, "input", "");
        box.type = "checkbox";
        box.checked = true;
        box.dataset.curve = curve.name;
        box.addEventListener("change", () => { curve.shown = box.checked; redraw(); });
        make(label, "span", "swatch");
        make(label, "span", "", curve.label);
        outputs.push([make(label, "output", ""), panel, curve]);
      }
    }
    const none = data.tiers.filter((tier) => !tier.spans.length).map((tier) => tier.name);
    $("empty").textContent = none.length ? `Nothing in these tiers: ${none.join(", ")}.` : "";
    plot.setAttribute("aria-valuemax", String(frames - 1));
  }
  function show() {
    const frame = hovered === null ? current : hovered, active = activeAt(current);
    for (const [output, panel, curve] of outputs) output.textContent = valueOf(panel, curve, frame);
    $("where").textContent = `frame ${current} · ${clock(times[current])}`;
    $("active").textContent = active.join(", ");
    $("range").textContent = `${clock(view.from)} – ${clock(view.to)}`;
    plot.setAttribute("aria-valuenow", String(current));
    plot.setAttribute("aria-valuetext", [`frame ${current}`, clock(times[current]), ...active].join(", "));
    const number = pictureOf(current);
    if (hasVideo()) {
      $("shown").textContent = `This is ${source.what}.`;
    } else {
      video.hidden = true;
      $("picture").hidden = number === null;
      $("shown").textContent = "There is no picture of this frame.";
      if (number !== null) {
        $("picture").src = pictureUrl(number);
        $("picture").alt = `frame ${pictures.frames[number]}`;
        $("shown").textContent = `Small picture of frame ${pictures.frames[number]}; the video is not beside this page.`;
      }
    }
    draw();
  }
  function showTip(event) {
    const box = plot.getBoundingClientRect(), at = event.clientX - box.left, number = pictureOf(hovered);
    $("tip-picture").hidden = number === null;
    if (number !== null) $("tip-picture").src = pictureUrl(number);
    $("tip-text").textContent = [`frame ${hovered}`, clock(times[hovered]), ...activeAt(hovered)].join("\n");
    tip.hidden = false;
    const wide = tip.offsetWidth;
    tip.style.left = `${at + 14 + wide < box.width ? at + 14 : Math.max(0, at - 14 - wide)}px`;
    tip.style.top = `${Math.max(0, Math.min(event.clientY - box.top + 14, box.height - tip.offsetHeight))}px`;
  }

  // Mouse, touch and keys

  const timeAt = (event) => {
    const box = plot.getBoundingClientRect();
    return view.from + ((event.clientX - box.left) / box.width) * (view.to - view.from);
  };
  let drag = null;
  plot.addEventListener("pointerdown", (event) => {
    drag = { x: event.clientX, from: view.from, moved: false };
    plot.setPointerCapture(event.pointerId);
  });
  plot.addEventListener("pointermove", (event) => {
    if (drag && Math.abs(event.clientX - drag.x) > 4) drag.moved = true;
    if (drag && drag.moved) {
      const span = view.to - view.from, from = drag.from - ((event.clientX - drag.x) / plot.clientWidth) * span;
      setView(from, from + span);
    }
    if (event.pointerType === "touch") return;
    hovered = frameAt(Math.max(whole.from, timeAt(event)));
    showTip(event);
    show();
  });
  plot.addEventListener("pointerup", (event) => {
    if (drag && !drag.moved) seek(frameAt(timeAt(event)));
    drag = null;
  });
  plot.addEventListener("pointercancel", () => { drag = null; });
  plot.addEventListener("pointerleave", () => { hovered = null; tip.hidden = true; show(); });
  plot.addEventListener("wheel", (event) => {
    event.preventDefault();
    const sideways = event.deltaX || (event.shiftKey ? event.deltaY : 0), span = view.to - view.from;
    if (sideways) setView(view.from + (Math.sign(sideways) * span) / 10, view.to + (Math.sign(sideways) * span) / 10);
    else zoom(event.deltaY > 0 ? 1.25 : 0.8, timeAt(event));
  }, { passive: false });
  const moveOverview = (event) => {
    if (!(event.buttons & 1)) return;
    const box = overview.getBoundingClientRect(), span = view.to - view.from;
    const middle = whole.from + ((event.clientX - box.left) / box.width) * (whole.to - whole.from);
    setView(middle - span / 2, middle + span / 2);
  };
  overview.addEventListener("pointerdown", (event) => { overview.setPointerCapture(event.pointerId); moveOverview(event); });
  overview.addEventListener("pointermove", moveOverview);
  const actions = {
    back: () => seek(current - 1), on: () => seek(current + 1), play: () => setPlaying(!playing),
    in: () => zoom(0.5), out: () => zoom(2), all: () => setView(whole.from, whole.to),
  };
  for (const [id, action] of Object.entries(actions)) $(id).addEventListener("click", action);
  const keys = {
    ArrowLeft: actions.back, ArrowRight: actions.on, "+": actions.in, "=": actions.in, "-": actions.out, 0: actions.all,
    Home: () => seek(0), End: () => seek(frames - 1), " ": actions.play,
  };
  document.addEventListener("keydown", (event) => {
    const own = event.target.closest("button, input, summary"), action = keys[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey || (own && event.key === " ")) return;
    if (event.target.matches(".scroll")) return; // the table scrolls by these keys
    event.preventDefault();
    if (event.shiftKey && event.key.startsWith("Arrow")) {
      seek(frameAt(Math.max(whole.from, times[current] + (event.key === "ArrowLeft" ? -1 : 1))));
    } else action();
  });
  $("events").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) seek(frameAt(Number(button.dataset.ms) / 1000 + 0.0005));
  });

  function restyle() { readColours(); redraw(); }
  window.addEventListener("resize", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", restyle);
  window.addEventListener("beforeprint", () => { document.documentElement.classList.add("print"); readColours(); stale = true; paint(); });
  window.addEventListener("afterprint", () => { document.documentElement.classList.remove("print"); restyle(); });

  build();
  readColours();
  nextSource();
})();
