/** The canvas: one image, fitted, zoomed and moved. */
export interface View {
  zoom: number;
  x: number;
  y: number;
}

export interface Pane {
  show(image: ImageBitmap | undefined, pixelAspect: number): void;
  setView(view: View): void;
  view(): View;
  /** Zoom by `factor` so that the point of the page (clientX, clientY) stays where it is. */
  zoomAt(factor: number, clientX: number, clientY: number): void;
  moveBy(dx: number, dy: number): void;
  /** Screen pixels of one image pixel, for the overlay. */
  magnification(): number;
}

const LEAST_ZOOM = 0.5;
const MOST_ZOOM = 20;

export function createPane(canvas: HTMLCanvasElement, onView: () => void): Pane {
  const context = canvas.getContext("2d", { alpha: false })!;
  let image: ImageBitmap | undefined;
  let aspect = 1;
  let view: View = { zoom: 1, x: 0, y: 0 };
  let scheduled = 0;

  const fit = (): number => {
    if (!image || !canvas.width) return 1;
    return Math.min(canvas.width / image.width, canvas.height / (image.height * aspect));
  };

  const draw = (): void => {
    scheduled = 0;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (!image) return;
    const scale = fit() * view.zoom;
    const width = image.width * scale;
    const height = image.height * aspect * scale;
    const ratio = window.devicePixelRatio || 1;
    context.imageSmoothingEnabled = scale < 6;
    context.imageSmoothingQuality = "high";
    context.drawImage(
      image,
      (canvas.width - width) / 2 + view.x * ratio,
      (canvas.height - height) / 2 + view.y * ratio,
      width,
      height,
    );
  };

  const schedule = (): void => {
    scheduled ||= requestAnimationFrame(draw);
  };

  const resize = (): void => {
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    if (scheduled) cancelAnimationFrame(scheduled);
    draw();
    onView();
  };
  new ResizeObserver(resize).observe(canvas);

  const setView = (next: View): void => {
    view = { ...next, zoom: Math.min(MOST_ZOOM, Math.max(LEAST_ZOOM, next.zoom)) };
    schedule();
    onView();
  };

  return {
    show(next, pixelAspect) {
      image = next;
      aspect = pixelAspect;
      schedule();
    },
    setView,
    view: () => view,
    zoomAt(factor, clientX, clientY) {
      const box = canvas.getBoundingClientRect();
      const px = clientX - box.left - box.width / 2;
      const py = clientY - box.top - box.height / 2;
      const zoom = Math.min(MOST_ZOOM, Math.max(LEAST_ZOOM, view.zoom * factor));
      const real = zoom / view.zoom;
      setView({ zoom, x: px - (px - view.x) * real, y: py - (py - view.y) * real });
    },
    moveBy(dx, dy) {
      setView({ ...view, x: view.x + dx, y: view.y + dy });
    },
    magnification: () => (fit() * view.zoom) / (window.devicePixelRatio || 1),
  };
}
