// Filters of the list of all exercises: selects that hide what does not fit, and say how much is left.
(() => {
  const form = document.querySelector(".exercise-filters");
  const count = document.querySelector(".exercise-count");
  const items = [...document.querySelectorAll(".exercise-list > li")];

  function fits({ chapter, levels, minutes }, wanted) {
    const [from, to] = wanted.time ? wanted.time.split(" ").map(Number) : [0, Infinity];
    return (
      (!wanted.chapter || chapter === wanted.chapter) &&
      (!wanted.level || levels.split(" ").includes(wanted.level)) &&
      from <= Number(minutes) && Number(minutes) <= to
    );
  }

  function update() {
    const wanted = Object.fromEntries(new FormData(form));
    for (const item of items) item.hidden = !fits(item.dataset, wanted);
    for (const chapter of document.querySelectorAll(".exercise-chapter"))
      chapter.hidden = !chapter.querySelector("li[data-chapter]:not([hidden])");
    const shown = items.filter((item) => !item.hidden);
    const time = shown.reduce((sum, item) => sum + Number(item.dataset.minutes), 0);
    const number = `${shown.length} exercise${shown.length === 1 ? "" : "s"}`;
    count.textContent = shown.length
      ? `${number}, ${Math.floor(time / 60)} h ${time % 60} min`
      : "No exercise fits.";
  }

  form.hidden = false;
  form.addEventListener("change", update);
  // Some browsers put the selects back as they were when one returns to the page.
  window.addEventListener("pageshow", update);
})();
