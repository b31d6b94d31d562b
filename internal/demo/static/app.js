// Keeps the page up to date: the server says that something changed, the page
// fetches its panels again, and one whose version is another flashes.
"use strict";
(() => {
  const film = document.body.dataset.film;
  const live = document.getElementById("live");
  const changes = document.getElementById("changes");
  const keep = 12;

  const swap = async (old) => {
    const url = new URL(old.dataset.src, location);
    if (film) url.searchParams.set("film", film);
    const response = await fetch(url, { cache: "no-store" });
    if (!response.ok) return;
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html").querySelector(".panel");
    if (!fresh) return;
    const before = new Map([...old.querySelectorAll("[data-token]")].map((e) => [e.dataset.token, e.dataset.value]));
    if (fresh.dataset.version !== old.dataset.version) {
      fresh.classList.add("flash");
      for (const e of fresh.querySelectorAll("[data-token]")) {
        if (before.get(e.dataset.token) !== e.dataset.value) e.classList.add("bumped");
      }
    }
    const focused = old.contains(document.activeElement) && document.activeElement;
    const again = focused && [...fresh.querySelectorAll("a, button")].find((e) =>
      e.localName === focused.localName && e.getAttribute("href") === focused.getAttribute("href") && e.value === focused.value);
    old.replaceWith(fresh);
    if (again) again.focus({ preventScroll: true });
  };

  // Changes that come close together cost one round of fetches.
  let wanted = false, busy = false;
  const refresh = async () => {
    wanted = true;
    if (busy) return;
    busy = true;
    while (wanted) {
      wanted = false;
      await Promise.allSettled([...document.querySelectorAll("[data-src]")].map(swap));
    }
    busy = false;
  };

  const source = new EventSource("/events?after=" + document.body.dataset.seq);
  source.onopen = () => { live.textContent = "live"; live.classList.add("on"); };
  source.addEventListener("reload", () => location.reload());
  source.onerror = () => { live.textContent = "the demo has ended, or is out of reach"; live.classList.remove("on"); };
  source.addEventListener("change", (event) => {
    const item = new DOMParser().parseFromString(event.data, "text/html").querySelector("li");
    if (!changes.querySelector(`[data-seq="${item.dataset.seq}"]`)) {
      changes.querySelector(".empty")?.remove();
      changes.prepend(item);
      while (changes.children.length > keep) changes.lastElementChild.remove();
    }
    refresh();
  });

  // Forms are sent in the background; what they change comes back as an event.
  document.addEventListener("submit", (event) => {
    event.preventDefault();
    const body = new URLSearchParams(new FormData(event.target, event.submitter));
    fetch(event.target.action, { method: "POST", body, headers: { Accept: "application/json" } });
  });

  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = !navigator.clipboard;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }
})();
