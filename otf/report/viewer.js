// The trajectory in three dimensions: 3Dmol draws, this feeds it one frame after the other.
(() => {
  const find = (id) => document.getElementById(id);
  const scene = JSON.parse(find("scene").textContent);
  const stage = find("stage"), play = find("play"), slider = find("frame"), byError = find("by-error");

  const canvas = document.createElement("canvas");
  if (!(canvas.getContext("webgl2") || canvas.getContext("webgl"))) {
    stage.textContent = "This browser draws nothing in three dimensions: WebGL is off.";
    return;
  }
  const viewer = $3Dmol.createViewer(stage, { backgroundAlpha: 0 });

  const STOPS = [[59, 130, 208], [240, 200, 60], [208, 59, 59]];
  const ramp = (error) => {
    if (error === null) return 0x888888;
    const place = Math.min(0.999, error / scene.most) * (STOPS.length - 1);
    const low = Math.floor(place), part = place - low;
    const mix = STOPS[low].map((a, i) => Math.round(a + part * (STOPS[low + 1][i] - a)));
    return (mix[0] << 16) | (mix[1] << 8) | mix[2];
  };
  const point = (v, i) => [v[i] / 100, v[i + 1] / 100, v[i + 2] / 100];
  const xyz = (frame) => `${scene.symbols.length}\n\n` +
    scene.symbols.map((s, i) => `${s} ${point(frame, 3 * i).join(" ")}`).join("\n") + "\n";

  const model = viewer.addModelsAsFrames(scene.positions.map(xyz).join(""), "xyz");
  let shown = 0;

  const paint = () => {
    const errors = byError && byError.checked ? scene.errors[shown] : null;
    const colour = errors ? { colorfunc: (atom) => ramp(errors[atom.index]) } : {};
    model.setStyle({}, { sphere: { scale: 0.28, ...colour }, stick: { radius: 0.1, ...colour } });
    viewer.render();
  };

  const box = () => {
    viewer.removeAllShapes();
    if (!scene.cells.length) return;
    const cell = scene.cells[Math.min(shown, scene.cells.length - 1)];
    const [a, b, c] = [0, 3, 6].map((i) => point(cell, i));
    const corner = (i, j, k) => {
      const [x, y, z] = [0, 1, 2].map((d) => i * a[d] + j * b[d] + k * c[d]);
      return { x, y, z };
    };
    for (const [i, j] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
      viewer.addLine({ start: corner(0, i, j), end: corner(1, i, j), color: "gray" });
      viewer.addLine({ start: corner(i, 0, j), end: corner(i, 1, j), color: "gray" });
      viewer.addLine({ start: corner(i, j, 0), end: corner(i, j, 1), color: "gray" });
    }
  };

  const show = async (frame) => {
    shown = frame;
    slider.value = frame;
    find("when").textContent = scene.times[frame];
    await viewer.setFrame(frame);
    box();
    paint();
  };

  const elements = find("elements");
  for (const symbol of new Set(scene.symbols)) {
    const entry = document.createElement("span"), swatch = document.createElement("i");
    const colour = $3Dmol.elementColors.Jmol[symbol] ?? 0xff1493;
    swatch.style.background = `#${colour.toString(16).padStart(6, "0")}`;
    entry.append(swatch, ` ${symbol}`);
    elements.append(entry);
  }

  let timer = null;
  const stop = () => { clearInterval(timer); timer = null; play.textContent = "play"; };
  play.onclick = () => {
    if (timer) return stop();
    play.textContent = "stop";
    timer = setInterval(() => show((shown + 1) % scene.positions.length), 100);
  };
  slider.oninput = () => { stop(); show(Number(slider.value)); };
  if (byError) byError.onchange = paint;

  // What WebGL drew is gone by the time a page is printed: a picture of it stands in.
  addEventListener("beforeprint", () => {
    viewer.render();
    find("printed").src = viewer.pngURI();
  });

  show(0).then(() => { viewer.zoomTo(); viewer.zoom(scene.cells.length ? 1.15 : 1.6); viewer.render(); stage.dataset.drawn = "yes"; });
})();
