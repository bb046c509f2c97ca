/** Marathon's page: apps, one app, deployments. */
import { render } from "preact";
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { call, get } from "../shared/api";
import { mebibytes, number } from "../shared/format";
import { Bar, Problem, Section, Table } from "../shared/parts";
import { usePolled, useRoute } from "../shared/poll";
import "../shared/style.css";
import { CreateApp } from "./create";
import { Detail } from "./detail";
import { statusOf } from "./model";
import type { App, Deployment, Queued } from "./model";

interface Everything {
  apps: App[];
  queue: Queued[];
  deployments: Deployment[];
}

async function read(): Promise<Everything> {
  const [apps, queue, deployments] = await Promise.all([
    get<{ apps: App[] }>("/v2/apps"),
    get<{ queue: Queued[] }>("/v2/queue"),
    get<Deployment[]>("/v2/deployments"),
  ]);
  return { apps: apps.apps, queue: queue.queue, deployments };
}

/** Looks again as soon as Marathon tells of a change; polling goes on beside it. */
function useEvents(refresh: () => void): void {
  useEffect(() => {
    const events = new EventSource("/v2/events");
    let due: number | undefined;
    const soon = (): void => {
      window.clearTimeout(due);
      due = window.setTimeout(refresh, 150);
    };
    for (const kind of ["status_update_event", "deployment_info", "deployment_success", "deployment_failed", "api_post_event", "app_terminated_event"]) {
      events.addEventListener(kind, soon);
    }
    return () => {
      window.clearTimeout(due);
      events.close();
    };
  }, [refresh]);
}

function Apps(props: { all: Everything }): JSX.Element {
  const [filter, setFilter] = useState("");
  const [creating, setCreating] = useState(location.hash.includes("modal=new-app"));
  const shown = props.all.apps.filter((app) => app.id.includes(filter.trim()));
  return (
    <Section
      title="Applications"
      count={props.all.apps.length}
      actions={
        <>
          <input type="search" aria-label="Search all applications" placeholder="Search all applications" value={filter} onInput={(event: Event) => setFilter((event.target as HTMLInputElement).value)} />
          <button type="button" name="create" class="main" onClick={() => setCreating(true)}>Create Application</button>
        </>
      }
    >
      <Table
        rows={shown}
        id={(app) => app.id}
        empty={props.all.apps.length === 0 ? "No Applications Created" : "No Applications Found"}
        columns={[
          { title: "Name", cell: (app) => <a href={`#/apps/${encodeURIComponent(app.id)}`}>{app.id}</a> },
          { title: "CPU", number: true, cell: (app) => number(app.cpus * app.instances) },
          { title: "Memory", number: true, cell: (app) => mebibytes(app.mem * app.instances) },
          {
            title: "Status",
            cell: (app) => {
              const status = statusOf(app, props.all.queue);
              return <span class={`state ${status.tone}`} title={status.title}>{status.word}</span>;
            },
          },
          { title: "Running Instances", number: true, cell: (app) => `${app.tasksRunning} of ${app.instances}` },
          { title: "Health", cell: (app) => <Bar part={app.tasksHealthy} whole={app.instances} /> },
        ]}
      />
      {creating && <CreateApp onClose={() => setCreating(false)} onDone={() => setCreating(false)} />}
    </Section>
  );
}

function Deployments(props: { deployments: Deployment[]; refresh: () => void }): JSX.Element {
  const [failure, setFailure] = useState<Error>();
  const rollBack = (id: string): void => {
    if (!window.confirm("Take this deployment back?")) return;
    call("DELETE", `/v2/deployments/${id}`).then(props.refresh, (reason: unknown) =>
      setFailure(reason instanceof Error ? reason : new Error(String(reason))),
    );
  };
  return (
    <>
      <Problem error={failure} what="Not taken back." />
      <Section title="Deployments" count={props.deployments.length}>
        <Table
          rows={props.deployments}
          id={(one) => one.id}
          empty="Active deployments will be shown here."
          columns={[
            { title: "Deployment ID", cell: (one) => <code>{one.id}</code> },
            { title: "Affected Applications", cell: (one) => one.affectedApps.map((id) => <div><a href={`#/apps/${encodeURIComponent(id)}`}>{id}</a></div>) },
            { title: "Action", cell: (one) => one.currentActions.map((action) => <div>{action.action}</div>) },
            { title: "Progress", cell: (one) => `${one.currentStep} / ${one.totalSteps}` },
            { title: "", cell: (one) => <button type="button" onClick={() => rollBack(one.id)}>Rollback</button> },
          ]}
        />
      </Section>
    </>
  );
}

function Page(): JSX.Element {
  const route = useRoute();
  const { value: all, error, refresh } = usePolled(read);
  useEvents(refresh);
  const app = /^\/apps\/([^?]+)/.exec(route)?.[1];
  const deployments = route.startsWith("/deployments");
  return (
    <>
      <header class="top">
        <h1>MARATHON</h1>
        <nav aria-label="Pages">
          <a href="#/apps" aria-current={deployments ? undefined : "page"}>Applications</a>
          <a href="#/deployments" aria-current={deployments ? "page" : undefined}>
            Deployments{all && all.deployments.length > 0 && ` (${all.deployments.length})`}
          </a>
        </nav>
      </header>
      <main>
        <Problem error={error} what="Marathon does not answer." />
        {app && <Detail key={app} id={decodeURIComponent(app)} />}
        {all && !app && deployments && <Deployments deployments={all.deployments} refresh={refresh} />}
        {all && !app && !deployments && <Apps all={all} />}
      </main>
    </>
  );
}

const root = document.getElementById("app");
if (root) {
  root.replaceChildren();
  render(<Page />, root);
}
