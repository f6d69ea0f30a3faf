// Pictures of one area are laid over each other. A handle moves the border between the first picture
// (left) and a selected one (right).
for (const box of document.querySelectorAll(".wipe")) {
  const [below, ...others] = box.querySelectorAll("figure");
  if (!others.length) continue;
  const title = (figure) => figure.querySelector("figcaption").textContent;
  const picture = below.querySelector("svg").viewBox.baseVal;
  const rail = document.createElement("div");
  rail.className = "rail";
  rail.style.aspectRatio = `${picture.width} / ${picture.height}`;
  rail.innerHTML = '<span></span><span></span><input type="range" min="0" max="100">';
  const [left, right, handle] = rail.children;
  left.textContent = title(below);
  handle.setAttribute("aria-label", `per cent of the width that shows: ${title(below)}`);

  const wipe = (at) => {
    const share = Math.min(100, Math.max(0, at));
    handle.value = share;
    box.style.setProperty("--at", `${share}%`);
  };
  const follow = (event) => {
    const edge = rail.getBoundingClientRect();
    wipe((100 * (event.clientX - edge.left)) / edge.width);
  };
  rail.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    rail.setPointerCapture(event.pointerId);
    handle.focus({ preventScroll: true });
    follow(event);
  });
  rail.addEventListener("pointermove", (event) => {
    if (rail.hasPointerCapture(event.pointerId)) follow(event);
  });
  handle.addEventListener("input", () => wipe(handle.value));

  const buttons = others.map((figure) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = title(figure);
    button.addEventListener("click", () => choose(figure));
    return button;
  });
  const choose = (chosen) => {
    others.forEach((figure, k) => {
      figure.classList.toggle("above", figure === chosen);
      buttons[k].setAttribute("aria-pressed", String(figure === chosen));
    });
    right.textContent = title(chosen);
  };
  if (others.length > 1) {
    const choice = document.createElement("div");
    choice.className = "choice";
    choice.setAttribute("role", "group");
    choice.setAttribute("aria-label", "picture on the right");
    choice.append(...buttons);
    box.parentElement.before(choice);
  }
  below.classList.add("below");
  choose(others[0]);
  wipe(50);
  box.append(rail);
  box.parentElement.classList.add("live");
}
