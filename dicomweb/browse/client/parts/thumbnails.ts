/** A thumbnail that cannot be had gives way to the icon below it. */
export function hideBrokenThumbnails(): void {
  const hide = (image: HTMLImageElement): void => {
    if (image.matches("[data-hide-on-error]")) image.remove();
  };
  document.addEventListener(
    "error",
    (event) => event.target instanceof HTMLImageElement && hide(event.target),
    true,
  );
  for (const image of document.querySelectorAll<HTMLImageElement>("img[data-hide-on-error]")) {
    if (image.complete && image.naturalWidth === 0) hide(image);
  }
}
