// Points in a box. Dragging or the arrow keys rotate it; buttons hide classes.
for (const box of document.querySelectorAll(".scatter")) {
  const { lengths, axes, classes, colours, points, words } = JSON.parse(
    box.querySelector("script").textContent,
  );
  const canvas = box.querySelector("canvas");
  const pen = canvas.getContext("2d");
  const note = box.querySelector("output");
  const hidden = new Set();
  const half = lengths.map((length) => length / Math.max(...lengths));
  const radius = Math.hypot(...half);
  let yaw = -0.6, pitch = 0.4, grip = null, drawn = [];

  // Axis 0 points into the page, axis 1 to the right, axis 2 down.
  const rotated = ([into, right, down]) => {
    const x = right * Math.cos(yaw) - into * Math.sin(yaw);
    const y = right * Math.sin(yaw) + into * Math.cos(yaw);
    return [x, down * Math.cos(pitch) - y * Math.sin(pitch), y * Math.cos(pitch) + down * Math.sin(pitch)];
  };
  const placed = (corner) => {
    const { clientWidth: width, clientHeight: height } = canvas;
    const scale = (Math.min(width, height) / 2 - 30) / radius;
    const [x, y, depth] = rotated(corner.map((share, k) => (2 * share - 1) * half[k]));
    return [width / 2 + scale * x, height / 2 + scale * y, depth];
  };
  const line = (from, to) => {
    pen.beginPath();
    pen.moveTo(from[0], from[1]);
    pen.lineTo(to[0], to[1]);
    pen.stroke();
  };

  const frame = () => {
    const style = getComputedStyle(canvas);
    pen.strokeStyle = style.getPropertyValue("--edge");
    pen.fillStyle = style.color;
    pen.font = "12px system-ui, sans-serif";
    pen.textAlign = "center";
    for (let axis = 0; axis < 3; axis++) {
      const [a, b] = [0, 1, 2].filter((other) => other !== axis);
      const edges = [[0, 0], [0, 1], [1, 0], [1, 1]].map(([s, t]) => [0, 1].map((end) => {
        const corner = [0, 0, 0];
        corner[axis] = end;
        corner[a] = s;
        corner[b] = t;
        return placed(corner);
      }));
      edges.forEach(([from, to]) => line(from, to));
      // The name of the axis stands at the edge farthest from the middle of the canvas.
      const middle = [canvas.clientWidth / 2, canvas.clientHeight / 2];
      const away = ([from, to]) =>
        Math.hypot((from[0] + to[0]) / 2 - middle[0], (from[1] + to[1]) / 2 - middle[1]);
      const [from, to] = edges.reduce((best, edge) => (away(edge) > away(best) + 1e-6 ? edge : best));
      const at = [(from[0] + to[0]) / 2, (from[1] + to[1]) / 2];
      const far = Math.hypot(at[0] - middle[0], at[1] - middle[1]) || 1;
      const out = (place, by) => [0, 1].map((k) => place[k] + (by * (at[k] - middle[k])) / far);
      pen.fillText(axes[axis], ...out(at, 26));
      pen.fillText("0", ...out(from, 12));
      pen.fillText(lengths[axis], ...out(to, 12));
    }
  };

  const draw = () => {
    const { clientWidth: width, clientHeight: height } = canvas, dense = devicePixelRatio || 1;
    canvas.width = width * dense;
    canvas.height = height * dense;
    pen.scale(dense, dense);
    frame();
    drawn = points
      .filter((point) => !hidden.has(point[3]))
      .map((point) => [...placed(lengths.map((length, k) => (point[k] + 0.5) / length)), point])
      .sort((one, other) => other[2] - one[2]);
    const size = Math.min(3.2, Math.max(1.6, 150 / Math.sqrt(points.length)));
    for (const [x, y, depth, point] of drawn) {
      pen.globalAlpha = 0.75 - 0.2 * depth;
      pen.fillStyle = colours[point[3]];
      pen.beginPath();
      pen.arc(x, y, size, 0, 7);
      pen.fill();
    }
    pen.globalAlpha = 1;
  };

  const describe = (event) => {
    const edge = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - edge.left, event.clientY - edge.top];
    let nearest = null, least = 8;
    for (const one of drawn) {
      const away = Math.hypot(one[0] - x, one[1] - y);
      if (away <= least) [nearest, least] = [one[3], away];
    }
    note.textContent = nearest
      ? `patch ${nearest[4]}, ${classes[nearest[3]]}: ` +
        axes.map((name, k) => `${name} ${nearest[k]}`).join(", ")
      : words;
  };

  const rotate = (right, down) => {
    yaw += right;
    pitch = Math.min(1.57, Math.max(-1.57, pitch + down));
    draw();
  };
  canvas.addEventListener("pointerdown", (event) => {
    grip = [event.clientX, event.clientY];
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!grip) return describe(event);
    rotate((event.clientX - grip[0]) / 150, (event.clientY - grip[1]) / 150);
    grip = [event.clientX, event.clientY];
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, () => { grip = null; });
  }
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] };
    if (!step[event.key]) return;
    event.preventDefault();
    rotate(...step[event.key]);
  });
  box.querySelectorAll("button").forEach((button, code) => {
    button.addEventListener("click", () => {
      hidden.has(code) ? hidden.delete(code) : hidden.add(code);
      button.setAttribute("aria-pressed", String(!hidden.has(code)));
      draw();
    });
  });
  note.textContent = words;
  new ResizeObserver(draw).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("beforeprint", draw);
  addEventListener("afterprint", draw);
}
