// Text that grows at its end. What is there is never touched again: new text becomes new nodes, and long text is parted at its line ends
// into blocks of their own, so that only the last one has to be laid out again. Read as text it is letter for letter what came.
import { Component, createRef } from "preact";

/** Text nodes shorter than this are filled up before another one is begun, so that there are not as many nodes as tokens. */
const NODE_CHARS = 2000;
/** A block is closed at the first line end behind so many characters. */
const BLOCK_CHARS = 1500;

export class Streamed extends Component<{ text: string }> {
  #place = createRef<HTMLSpanElement>();
  #shown = "";
  /** The block that grows, and how much is in it; where there is none, text stands in the place itself. */
  #block: HTMLElement | undefined;
  #inBlock = 0;

  override shouldComponentUpdate({ text }: { text: string }): boolean {
    this.#show(text);
    return false;
  }

  override componentDidMount(): void {
    this.#show(this.props.text);
  }

  render() {
    return <span class="streamed" ref={this.#place} />;
  }

  #show(text: string): void {
    const place = this.#place.current;
    if (!place || text === this.#shown) return;
    if (!text.startsWith(this.#shown)) {
      // Not a continuation: the finished message differs, or a restart of the hub made text void.
      place.replaceChildren();
      this.#shown = "";
      this.#block = undefined;
    }
    this.#append(place, text.slice(this.#shown.length));
    this.#shown = text;
  }

  #append(place: HTMLElement, more: string): void {
    while (more) {
      const end = this.#endOfBlock(more);
      const part = end === undefined ? more : more.slice(0, end);
      more = more.slice(part.length);
      const block = (this.#block ??= place.appendChild(newBlock()));
      appendText(block, part);
      this.#inBlock += part.length;
      if (end === undefined) continue;
      this.#block = undefined;
      this.#inBlock = 0;
    }
  }

  /** Where in the new text the block that grows is to be closed: behind a line end, which then makes no empty line. */
  #endOfBlock(more: string): number | undefined {
    const at = more.indexOf("\n", Math.max(0, BLOCK_CHARS - this.#inBlock));
    return at < 0 ? undefined : at + 1;
  }
}

function newBlock(): HTMLElement {
  const block = document.createElement("span");
  block.className = "block";
  return block;
}

function appendText(block: HTMLElement, more: string): void {
  const last = block.lastChild;
  if (last instanceof Text && last.length + more.length <= NODE_CHARS) last.appendData(more);
  else for (let from = 0; from < more.length; from += NODE_CHARS) block.append(document.createTextNode(more.slice(from, from + NODE_CHARS)));
}
