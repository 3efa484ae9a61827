// Text that grows at its end. What is there is never touched again: new text becomes a new text node, so an answer of many thousand
// tokens costs as much at its end as at its beginning.
import { Component, createRef } from "preact";

/** Text nodes shorter than this are filled up before another one is begun, so that there are not as many nodes as tokens. */
const NODE_CHARS = 2000;

export class Streamed extends Component<{ text: string }> {
  #place = createRef<HTMLSpanElement>();
  #shown = "";

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
    }
    append(place, text.slice(this.#shown.length));
    this.#shown = text;
  }
}

function append(place: Element, more: string): void {
  const last = place.lastChild;
  if (last instanceof Text && last.length + more.length <= NODE_CHARS) last.appendData(more);
  else for (let from = 0; from < more.length; from += NODE_CHARS) place.append(document.createTextNode(more.slice(from, from + NODE_CHARS)));
}
