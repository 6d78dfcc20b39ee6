// Search in pages that are opened as files: browsers start no worker from a file, a hidden frame does its work.
(() => {
  if (location.protocol !== "file:") return;
  const later = (what) => setTimeout(what); // a worker never answers within the call
  const message = (data) => new MessageEvent("message", { data: structuredClone(data) });
  window.Worker = class extends EventTarget {
    constructor(source) {
      super();
      this.early = []; // what is said before the frame listens
      this.onmessage = this.onerror = null;
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.frame = frame;
      const inside = frame.contentWindow;
      inside.postMessage = (data) => later(() => this.onmessage?.(message(data)));
      const script = inside.document.createElement("script");
      script.src = new URL(source, document.baseURI).href;
      script.onload = () => {
        this.inside = inside;
        this.early.splice(0).forEach((data) => this.postMessage(data));
      };
      script.onerror = () => this.onerror?.(new Event("error", { cancelable: true }));
      inside.document.body.append(script);
    }
    postMessage(data) {
      if (this.inside) later(() => this.inside.onmessage(message(data)));
      else this.early.push(data);
    }
    terminate() {
      this.frame.remove();
    }
  };
})();
