/** One app: its tasks, its last failure, and what can be done to it. */
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { ApiError, call, get } from "../shared/api";
import { ago, mebibytes, number } from "../shared/format";
import { Problem, Section, Table, TaskState } from "../shared/parts";
import { usePolled } from "../shared/poll";
import { appUrl } from "./model";
import type { App, Task } from "./model";

/** Does something to an app; a locked one only when the person says so. */
async function act(method: string, url: string, body?: unknown): Promise<void> {
  try {
    await call(method, url, body);
  } catch (reason) {
    const locked = reason instanceof ApiError && reason.status === 409;
    if (!locked || !window.confirm(`${reason.message}\n\nForce it?`)) throw reason;
    await call(method, `${url}${url.includes("?") ? "&" : "?"}force=true`, body);
  }
}

function Endpoints(props: { task: Task }): JSX.Element {
  const { host, ports } = props.task;
  if (ports.length === 0) return <>{host}</>;
  return (
    <>
      {ports.map((port) => (
        <div><a href={`http://${host}:${port}`} rel="noopener">{host}:{port}</a></div>
      ))}
    </>
  );
}

export function Detail(props: { id: string }): JSX.Element {
  const { value, error, refresh } = usePolled(() => get<{ app: App }>(appUrl(props.id)));
  const [failure, setFailure] = useState<Error>();
  const app = value?.app;

  const attempt = (done: () => void, method: string, url: string, body?: unknown): void => {
    setFailure(undefined);
    act(method, url, body).then(done, (reason: unknown) =>
      setFailure(reason instanceof Error ? reason : new Error(String(reason))),
    );
  };
  const scale = (): void => {
    const answer = window.prompt("How many instances would you like to scale to?", String(app?.instances ?? 1));
    if (answer === null) return;
    const instances = Number(answer);
    if (answer.trim() === "" || !Number.isInteger(instances) || instances < 0) {
      setFailure(new Error(`'${answer}' is no number of instances.`));
      return;
    }
    attempt(refresh, "PUT", appUrl(props.id), { instances });
  };
  const destroy = (): void => {
    if (!window.confirm(`Destroy ${props.id} and end its ${app?.instances ?? 0} instances?`)) return;
    attempt(() => { location.hash = "#/apps"; }, "DELETE", appUrl(props.id));
  };
  const restart = (): void => {
    if (window.confirm(`Restart all instances of ${props.id}?`)) attempt(refresh, "POST", `${appUrl(props.id)}/restart`, {});
  };
  const kill = (task: Task): void => {
    if (window.confirm(`Kill ${task.id}? Another one takes its place.`)) {
      attempt(refresh, "DELETE", `${appUrl(props.id)}/tasks/${encodeURIComponent(task.id)}`);
    }
  };

  return (
    <>
      <Problem error={error} what="The app can't be shown." />
      <Problem error={failure} what="Not done." />
      {app && (
        <>
          <Section
            title={app.id}
            actions={
              <>
                <button type="button" name="scale" onClick={scale}>Scale Application</button>
                <button type="button" onClick={() => attempt(refresh, "PUT", appUrl(props.id), { instances: 0 })}>Suspend</button>
                <button type="button" onClick={restart}>Restart</button>
                <button type="button" class="danger" onClick={destroy}>Destroy</button>
              </>
            }
          >
            <dl class="facts">
              <div><dt>Running</dt><dd>{app.tasksRunning} of {app.instances}</dd></div>
              <div><dt>Healthy</dt><dd>{app.tasksHealthy}{app.tasksUnhealthy > 0 && `, ${app.tasksUnhealthy} unhealthy`}</dd></div>
              <div><dt>CPUs each</dt><dd>{number(app.cpus)}</dd></div>
              <div><dt>Memory each</dt><dd>{mebibytes(app.mem)}</dd></div>
              <div><dt>Version</dt><dd>{app.version}</dd></div>
              {app.container?.docker && <div><dt>Image</dt><dd>{app.container.docker.image}</dd></div>}
              {app.cmd && <div class="wide"><dt>Command</dt><dd><code>{app.cmd}</code></dd></div>}
            </dl>
          </Section>
          <Section title="Instances" count={app.tasks?.length ?? 0}>
            <Table
              rows={app.tasks ?? []}
              id={(task) => task.id}
              empty="No instance runs."
              columns={[
                { title: "ID", cell: (task) => <code>{task.id}</code> },
                { title: "Endpoints", cell: (task) => <Endpoints task={task} /> },
                { title: "Status", cell: (task) => <TaskState name={task.state} /> },
                { title: "Version", cell: (task) => task.version },
                { title: "Updated", cell: (task) => ago(task.startedAt ?? task.stagedAt) },
                { title: "", cell: (task) => <button type="button" class="danger" onClick={() => kill(task)}>Kill</button> },
              ]}
            />
          </Section>
          {app.lastTaskFailure && (
            <Section title="Last Task Failure">
              <dl class="facts">
                <div><dt>State</dt><dd><TaskState name={app.lastTaskFailure.state} /></dd></div>
                <div><dt>Host</dt><dd>{app.lastTaskFailure.host}</dd></div>
                <div><dt>When</dt><dd>{ago(app.lastTaskFailure.timestamp)}</dd></div>
                <div><dt>Message</dt><dd>{app.lastTaskFailure.message || "–"}</dd></div>
              </dl>
            </Section>
          )}
        </>
      )}
    </>
  );
}
