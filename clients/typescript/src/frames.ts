// The frames of an event stream.

export interface Frame {
  readonly event: string;
  readonly data: string;
}

/** Characters of a frame that is not whole yet; a snapshot is the largest there is. */
const MOST = 16 * 1024 * 1024;

/** Cuts text that comes in pieces into frames. A comment is a frame without data. */
export class FrameReader {
  #rest = "";
  #event = "";
  #data: string[] = [];
  #comment = false;

  /** @throws RangeError for a frame that does not end. */
  *read(piece: string): Generator<Frame> {
    const lines = (this.#rest + piece).split("\n");
    this.#rest = lines.pop() ?? "";
    if (this.#rest.length > MOST) throw new RangeError("a frame of the event stream does not end");
    for (const line of lines) {
      const frame = this.#line(line.endsWith("\r") ? line.slice(0, -1) : line);
      if (frame) yield frame;
    }
  }

  #line(line: string): Frame | undefined {
    if (line === "") return this.#whole();
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (name === "") this.#comment = true;
    else if (name === "event") this.#event = value;
    else if (name === "data") this.#data.push(value);
    return undefined;
  }

  #whole(): Frame | undefined {
    const frame = this.#data.length || this.#comment ? { event: this.#event, data: this.#data.join("\n") } : undefined;
    this.#event = "";
    this.#data = [];
    this.#comment = false;
    return frame;
  }
}
