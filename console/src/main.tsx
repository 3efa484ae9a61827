import { Component, render, type ComponentChildren } from "preact";
import { App } from "./app";
import "./styles/base.css";
import "./styles/frame.css";
import "./styles/session.css";
import "./styles/pages.css";

/** A fault of this page is said, not shown as an empty one. Nothing is lost by it: the hub has everything. */
class Boundary extends Component<{ children: ComponentChildren }, { fault?: Error }> {
  override componentDidCatch(fault: Error): void {
    console.error(fault);
    this.setState({ fault });
  }

  render() {
    const { fault } = this.state;
    if (!fault) return this.props.children;
    return (
      <div class="page">
        <div class="notice" role="alert">
          <strong>The console has a fault and stopped drawing.</strong>
          <p>Sessions and tasks are not touched: they are in the hub. {fault.message}</p>
          <button type="button" class="primary" onClick={() => location.reload()}>
            Load it again
          </button>
        </div>
      </div>
    );
  }
}

render(
  <Boundary>
    <App />
  </Boundary>,
  document.getElementById("app")!,
);
