// Text that grows at its end. What is there is never touched again: new text becomes new nodes, and long text is parted at its line ends
// into blocks of their own, so that only the last one has to be laid out again. What stands between two lines of ``` is code and looks
// like it. Read as text it is letter for letter what came.
import { Component, createRef } from "preact";

/** Text nodes shorter than this are filled up before another one is begun, so that there are not as many nodes as tokens. */
const NODE_CHARS = 2000;
/** A block is closed at the first line end behind so many characters. */
const BLOCK_CHARS = 1500;
const FENCE = "```";
/** A line that begins like a fence is waited for until it is whole, but not longer than this. */
const FENCE_CHARS = 40;

interface Props {
  text: string;
  /** Nothing more comes. */
  done: boolean;
}

export class Streamed extends Component<Props> {
  #place = createRef<HTMLSpanElement>();
  #shown = "";
  /** The beginning of what may become a fence. */
  #held = "";
  #atLineStart = true;
  #inCode = false;
  /** The block that grows, and how much is in it. */
  #block: HTMLElement | undefined;
  #inBlock = 0;

  override shouldComponentUpdate(next: Props): boolean {
    this.#show(next);
    return false;
  }

  override componentDidMount(): void {
    this.#show(this.props);
  }

  render() {
    return <span class="streamed" ref={this.#place} />;
  }

  #show({ text, done }: Props): void {
    const place = this.#place.current;
    if (!place || (text === this.#shown && !(done && this.#held))) return;
    if (!text.startsWith(this.#shown)) {
      // Not a continuation: the finished message differs, a restart of the hub made text void, or a replay went back.
      place.replaceChildren();
      this.#shown = this.#held = "";
      this.#atLineStart = true;
      this.#inCode = false;
      this.#close();
    }
    this.#append(place, this.#held + text.slice(this.#shown.length), done);
    this.#shown = text;
  }

  #append(place: HTMLElement, more: string, done: boolean): void {
    this.#held = "";
    while (more) {
      const end = more.indexOf("\n") + 1;
      const line = end ? more.slice(0, end) : more;
      if (this.#atLineStart && mayBeFence(line)) {
        if (!end && !done && line.length < FENCE_CHARS) {
          this.#held = line;
          return;
        }
        if (line.startsWith(FENCE)) this.#fence(place, line);
        else this.#text(place, line);
      } else this.#text(place, line);
      this.#atLineStart = end > 0;
      more = more.slice(line.length);
    }
  }

  #text(place: HTMLElement, line: string): void {
    appendText(this.#open(place), line);
    this.#inBlock += line.length;
    // Behind a line end, which then makes no empty line.
    if (line.endsWith("\n") && this.#inBlock >= BLOCK_CHARS && !this.#inCode) this.#close();
  }

  #fence(place: HTMLElement, line: string): void {
    if (!this.#inCode) this.#close();
    const mark = document.createElement("span");
    mark.className = "fence";
    mark.textContent = line;
    this.#inCode = !this.#inCode;
    this.#open(place).append(mark);
    if (!this.#inCode) this.#close();
  }

  #open(place: HTMLElement): HTMLElement {
    if (this.#block) return this.#block;
    this.#block = document.createElement("span");
    this.#block.className = this.#inCode ? "block code" : "block";
    return place.appendChild(this.#block);
  }

  #close(): void {
    this.#block = undefined;
    this.#inBlock = 0;
  }
}

/** Or could become one. */
const mayBeFence = (line: string): boolean => (line.length < FENCE.length ? FENCE.startsWith(line) : line.startsWith(FENCE));

function appendText(block: HTMLElement, more: string): void {
  const last = block.lastChild;
  if (last instanceof Text && last.length + more.length <= NODE_CHARS) last.appendData(more);
  else for (let from = 0; from < more.length; from += NODE_CHARS) block.append(document.createTextNode(more.slice(from, from + NODE_CHARS)));
}
