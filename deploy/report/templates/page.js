// Says what a box is where it is pointed at, tapped or focused, and lights up its map's other
// boxes. In a picture one box is a stop of the tab key; arrows, Home and End go to the others.
for (const figure of document.querySelectorAll("figure")) {
  const info = figure.querySelector(".info");
  const boxes = [...figure.querySelectorAll(".boxes rect")];
  const stops = boxes.filter((box) => box.hasAttribute("tabindex"));
  const show = (event) => {
    const box = event.target.closest(".boxes rect");
    for (const other of boxes) {
      other.classList.toggle("on", box !== null && other.dataset.f === box.dataset.f);
    }
    info.textContent = (box && box.getAttribute("aria-label")) || "";
  };
  const go = (event) => {
    const at = stops.indexOf(event.target);
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1,
      Home: 0, End: stops.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    const next = stops[Math.min(Math.max(to, 0), stops.length - 1)];
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  };
  figure.addEventListener("pointerover", show);
  figure.addEventListener("click", show);
  figure.addEventListener("focusin", show);
  figure.addEventListener("keydown", go);
}
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = "copied";
    } catch {
      button.textContent = button.dataset.copy;
    }
  });
}
