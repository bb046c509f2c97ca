/** The form of a new app: fields, or the JSON that they make. */
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { call } from "../shared/api";
import { Problem } from "../shared/parts";

interface Fields {
  id: string;
  cmd: string;
  image: string;
  network: "bridge" | "host";
  containerPorts: string;
  cpus: string;
  mem: string;
  instances: string;
}

const EMPTY: Fields = { id: "", cmd: "", image: "", network: "bridge", containerPorts: "", cpus: "0.1", mem: "32", instances: "1" };

/** `80, 53/udp`. */
const PORTS = "\\s*\\d+(/(tcp|udp))?(\\s*,\\s*\\d+(/(tcp|udp))?)*\\s*";

/** The mappings of a list of container ports; Marathon chooses the host's. */
function portMappings(text: string): Record<string, unknown>[] {
  return text
    .split(",")
    .map((one) => one.trim().split("/"))
    .filter(([port]) => port)
    .map(([port, protocol]) => ({ containerPort: Number(port), hostPort: 0, protocol: protocol ?? "tcp" }));
}

/** The app that the fields describe. */
export function appOf(fields: Fields): Record<string, unknown> {
  const app: Record<string, unknown> = {
    id: fields.id.trim(),
    cpus: Number(fields.cpus),
    mem: Number(fields.mem),
    instances: Number(fields.instances),
  };
  if (fields.cmd.trim()) app.cmd = fields.cmd;
  if (fields.image.trim()) {
    const container: Record<string, unknown> = { type: "DOCKER", docker: { image: fields.image.trim() } };
    if (fields.network === "bridge") {
      app.networks = [{ mode: "container/bridge" }];
      container.portMappings = portMappings(fields.containerPorts);
    } else {
      app.networks = [{ mode: "host" }];
    }
    app.container = container;
  }
  return app;
}

export function CreateApp(props: { onClose: () => void; onDone: () => void }): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  const [fields, setFields] = useState(EMPTY);
  const [text, setText] = useState<string>();
  const [error, setError] = useState<Error>();
  const [busy, setBusy] = useState(false);

  useEffect(() => dialog.current?.showModal(), []);

  const put = (name: keyof Fields) => (event: Event): void => {
    const value = (event.target as HTMLInputElement).value;
    setFields((before) => ({ ...before, [name]: value }) as Fields);
  };

  const create = async (event: Event): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    setError(undefined);
    try {
      const app: unknown = text === undefined ? appOf(fields) : JSON.parse(text);
      await call("POST", "/v2/apps", app);
      props.onDone();
    } catch (reason) {
      setError(reason instanceof Error ? reason : new Error(String(reason)));
      setBusy(false);
    }
  };

  const field = (name: keyof Fields, label: string, more: JSX.IntrinsicElements["input"] & { wide?: string } = {}): JSX.Element => {
    const { wide, ...rest } = more;
    return (
      <label class={wide}>
        <span>{label}</span>
        <input name={name} value={fields[name]} onInput={put(name)} {...rest} />
      </label>
    );
  };

  return (
    <dialog ref={dialog} onClose={props.onClose} aria-labelledby="create-title">
      <form onSubmit={(event: Event) => void create(event)}>
        <h2 id="create-title">
          New Application
          <label>
            <input
              type="checkbox"
              name="json"
              checked={text !== undefined}
              onChange={(event: Event) =>
                setText((event.target as HTMLInputElement).checked ? JSON.stringify(appOf(fields), null, 2) : undefined)
              }
            />{" "}
            JSON Mode
          </label>
        </h2>
        <Problem error={error} what="Not created." />
        {text === undefined ? (
          <div class="fields">
            {field("id", "ID", { wide: "wide", required: true, placeholder: "/my-app", autofocus: true })}
            {field("cpus", "CPUs", { type: "number", min: "0", step: "any", required: true })}
            {field("mem", "Memory (MiB)", { type: "number", min: "0", step: "any", required: true })}
            {field("instances", "Instances", { type: "number", min: "0", step: "1", required: true })}
            <label class="wide">
              <span>Command (may be left blank if a container image is supplied)</span>
              <textarea name="cmd" rows={2} value={fields.cmd} onInput={put("cmd")} />
            </label>
            {field("image", "Docker image", { wide: "wide" })}
            <label class="half">
              <span>Network</span>
              <select name="network" value={fields.network} onChange={put("network")} disabled={!fields.image}>
                <option value="bridge">Bridged</option>
                <option value="host">Host</option>
              </select>
            </label>
            {field("containerPorts", "Container ports, as 80, 53/udp", {
              wide: "half", pattern: PORTS, disabled: !fields.image || fields.network !== "bridge",
            })}
          </div>
        ) : (
          <label>
            <span>The app, as POST /v2/apps takes it</span>
            <textarea name="text" rows={18} value={text} onInput={(event: Event) => setText((event.target as HTMLTextAreaElement).value)} />
          </label>
        )}
        <div class="end">
          <button type="button" onClick={() => dialog.current?.close()}>Cancel</button>
          <button type="submit" class="main" disabled={busy}>Create Application</button>
        </div>
      </form>
    </dialog>
  );
}
