// The drawing area: strokes of mouse, pen or finger, black on white like ink on paper.
"use strict";

class Pad {
  constructor(canvas, changed) {
    this.canvas = canvas;
    this.changed = changed;
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.last = null;
    this.clear();
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, () => { this.last = null; });
    }
  }

  clear() {
    this.empty = true;
    this.context.fillStyle = "#fff";
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }

  begin(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    this.canvas.setPointerCapture(event.pointerId);
    this.last = this.place(event);
    this.stroke(this.last);
  }

  move(event) {
    if (this.last === null) return;
    for (const step of event.getCoalescedEvents?.() ?? [event]) this.stroke(this.place(step));
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    const scale = this.canvas.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  }

  stroke(to) {
    const context = this.context;
    context.strokeStyle = "#111";
    context.lineWidth = this.canvas.width / 16;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(...this.last);
    context.lineTo(...to);
    context.stroke();
    this.last = to;
    this.empty = false;
    this.changed();
  }

  png() {
    return new Promise((resolve) => this.canvas.toBlob(resolve, "image/png"));
  }
}
