/** The frame of every page: menu drawer, dialogs, questions before a form is sent, toasts. */
const TOAST_MS = 6000;

export function setUpMenu(): void {
  const button = document.querySelector<HTMLButtonElement>("[data-menu]");
  if (!button) return;
  const show = (open: boolean): void => {
    document.body.classList.toggle("menu-open", open);
    button.setAttribute("aria-expanded", String(open));
    if (open) document.querySelector<HTMLElement>("#menu a")?.focus();
  };
  button.addEventListener("click", () => show(!document.body.classList.contains("menu-open")));
  document.querySelector("[data-menu-veil]")?.addEventListener("click", () => show(false));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !document.body.classList.contains("menu-open")) return;
    show(false);
    button.focus();
  });
}

export function setUpDialogs(): void {
  document.addEventListener("click", (event) => {
    const target = event.target as Element;
    const opener = target.closest<HTMLElement>("[data-open-dialog]");
    if (opener) openDialog(opener.dataset["openDialog"] ?? "");
    for (const open of document.querySelectorAll<HTMLDetailsElement>("details.popover-details[open]")) {
      if (!open.contains(target)) open.open = false;
    }
  });
}

export function openDialog(id: string): void {
  const dialog = document.getElementById(id);
  if (dialog instanceof HTMLDialogElement && !dialog.open) dialog.showModal();
}

/** A button with `data-confirm` sends its form only after the person said yes to that question. */
export function setUpConfirm(): void {
  const dialog = document.querySelector<HTMLDialogElement>("#confirm");
  if (!dialog) return;
  let waiting: HTMLButtonElement | null = null;
  document.addEventListener("submit", (event) => {
    const button = (event as SubmitEvent).submitter;
    const question = button?.dataset["confirm"];
    if (!(button instanceof HTMLButtonElement) || !question || button === waiting) return;
    event.preventDefault();
    waiting = button;
    dialog.querySelector("[data-confirm-text]")!.textContent = question;
    dialog.querySelector("[data-confirm-yes]")!.textContent = button.textContent?.trim() ?? "";
    dialog.returnValue = "no";
    dialog.showModal();
  });
  document.addEventListener("submit", (event) => {
    if (!event.defaultPrevented) (event.target as HTMLFormElement).classList.add("is-sending");
  });
  dialog.addEventListener("close", () => {
    const button = waiting;
    if (dialog.returnValue === "yes" && button?.form) button.form.requestSubmit(button);
    waiting = null;
  });
}

export function setUpToasts(): void {
  for (const toast of document.querySelectorAll<HTMLElement>("[data-toast]")) {
    toast.querySelector("[data-toast-close]")?.addEventListener("click", () => toast.remove());
    window.setTimeout(() => toast.remove(), TOAST_MS);
  }
}
