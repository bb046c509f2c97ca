/** The master's page: cluster, agents, frameworks, tasks, sandboxes. */
import { render } from "preact";
import type { JSX } from "preact";
import { Elsewhere, get } from "../shared/api";
import { ago, mebibytes, number } from "../shared/format";
import { Bar, Problem, Section, Table, TaskState } from "../shared/parts";
import { usePolled, useRoute } from "../shared/poll";
import "../shared/style.css";
import { Log } from "./log";
import { Sandbox } from "./sandbox";
import { agentUrl, sum } from "./state";
import type { Agent, Framework, State, Task } from "./state";

/** The leader's state. A master that doesn't lead has its page replaced by the leader's. */
async function read(): Promise<State> {
  try {
    return await get<State>("/state");
  } catch (reason) {
    if (reason instanceof Elsewhere) location.replace("/redirect");
    throw reason;
  }
}

function Summary(props: { state: State }): JSX.Element {
  const { state } = props;
  const total = state.slaves.map((agent) => agent.resources);
  const used = state.slaves.map((agent) => agent.used_resources);
  const share = (kind: "cpus" | "mem" | "disk", show: (value: number) => string): JSX.Element => (
    <dd>
      {show(sum(used, kind))} of {show(sum(total, kind))}
      <Bar part={sum(used, kind)} whole={sum(total, kind)} />
    </dd>
  );
  return (
    <Section title={state.cluster ?? "Cluster"}>
      <dl class="facts">
        <div><dt>Leader</dt><dd>{state.leader_info ? `${state.leader_info.hostname}:${state.leader_info.port}` : "none"}</dd></div>
        <div><dt>Elected</dt><dd>{ago(state.elected_time)}</dd></div>
        <div><dt>Version</dt><dd>{state.version}</dd></div>
        {(state.log_dir ?? state.external_log_file) && <div><dt>Log</dt><dd><a href="#/log/master">Show</a></dd></div>}
        <div><dt>CPUs</dt>{share("cpus", number)}</div>
        <div><dt>Memory</dt>{share("mem", mebibytes)}</div>
        <div><dt>Disk</dt>{share("disk", mebibytes)}</div>
      </dl>
    </Section>
  );
}

function Agents(props: { agents: Agent[] }): JSX.Element {
  return (
    <Section title="Agents" count={props.agents.length}>
      <Table
        rows={props.agents}
        id={(agent) => agent.id}
        empty="No agent has registered yet."
        columns={[
          { title: "Host", cell: (agent) => agent.hostname },
          { title: "ID", cell: (agent) => <code>{agent.id}</code> },
          { title: "State", cell: (agent) => <span class={`state ${agent.active ? "good" : "bad"}`}>{agent.active ? "Active" : "Inactive"}</span> },
          { title: "CPUs", number: true, cell: (agent) => `${number(agent.used_resources.cpus ?? 0)} / ${number(agent.resources.cpus ?? 0)}` },
          { title: "Memory", number: true, cell: (agent) => `${mebibytes(agent.used_resources.mem ?? 0)} / ${mebibytes(agent.resources.mem ?? 0)}` },
          { title: "Version", cell: (agent) => agent.version ?? "–" },
          { title: "Registered", cell: (agent) => ago(agent.registered_time) },
          { title: "", cell: (agent) => <a href={`#/log/${agent.id}`}>Log</a> },
        ]}
      />
    </Section>
  );
}

function LogOf(props: { state: State; id: string }): JSX.Element {
  if (props.id === "master") return <Log title="The leader's log" url="" path="/master/log" />;
  const agent = props.state.slaves.find((one) => one.id === props.id);
  if (!agent) return <Problem error={new Error("It is not registered any more.")} what="The agent's log can't be shown." />;
  return <Log title={`The log of ${agent.hostname}`} url={agentUrl(agent)} path="/slave/log" />;
}

function Frameworks(props: { frameworks: Framework[] }): JSX.Element {
  return (
    <Section title="Frameworks" count={props.frameworks.length}>
      <Table
        rows={props.frameworks}
        id={(framework) => framework.id}
        empty="No framework is registered."
        columns={[
          { title: "Name", cell: (framework) => framework.webui_url ? <a href={framework.webui_url} rel="noopener">{framework.name}</a> : framework.name },
          { title: "ID", cell: (framework) => <code>{framework.id}</code> },
          { title: "Host", cell: (framework) => framework.hostname },
          { title: "User", cell: (framework) => framework.user },
          { title: "State", cell: (framework) => <span class={`state ${framework.active ? "good" : "wait"}`}>{framework.active ? "Active" : "Inactive"}</span> },
          { title: "Tasks", number: true, cell: (framework) => number(framework.tasks.length) },
          { title: "CPUs", number: true, cell: (framework) => number(framework.used_resources.cpus ?? 0) },
          { title: "Memory", number: true, cell: (framework) => mebibytes(framework.used_resources.mem ?? 0) },
          { title: "Registered", cell: (framework) => ago(framework.registered_time) },
        ]}
      />
    </Section>
  );
}

function Tasks(props: { title: string; tasks: Task[]; state: State; empty: string }): JSX.Element {
  const host = (task: Task): string =>
    props.state.slaves.find((agent) => agent.id === task.slave_id)?.hostname ?? task.slave_id;
  const since = (task: Task): string => ago(task.statuses[task.statuses.length - 1]?.timestamp);
  return (
    <Section title={props.title} count={props.tasks.length}>
      <Table
        rows={props.tasks.slice(0, 500)}
        id={(task) => `${task.framework_id}/${task.id}`}
        empty={props.empty}
        columns={[
          { title: "Name", cell: (task) => task.name },
          { title: "ID", cell: (task) => <code>{task.id}</code> },
          { title: "State", cell: (task) => <TaskState name={task.state} /> },
          { title: "Host", cell: host },
          { title: "CPUs", number: true, cell: (task) => number(task.resources.cpus ?? 0) },
          { title: "Memory", number: true, cell: (task) => mebibytes(task.resources.mem ?? 0) },
          { title: "Since", cell: since },
          {
            title: "",
            cell: (task) => (
              <a href={`#/sandbox/${task.slave_id}/${task.framework_id}/${encodeURIComponent(task.executor_id || task.id)}`}>Sandbox</a>
            ),
          },
        ]}
      />
      {props.tasks.length > 500 && <p class="muted">The first 500 are shown; /tasks tells of all.</p>}
    </Section>
  );
}

function Page(): JSX.Element {
  const route = useRoute();
  const { value: state, error } = usePolled(read);
  const sandbox = /^\/sandbox\/([^/]+)\/([^/]+)\/([^/?]+)(?:\?path=(.*))?$/.exec(route);
  const log = /^\/log\/([^/?]+)$/.exec(route);
  const isElsewhere = sandbox ?? log;
  const all = state ? [...state.frameworks, ...state.completed_frameworks] : [];
  return (
    <>
      <header class="top">
        <h1>MESOS</h1>
        <nav aria-label="Pages"><a href="#/" aria-current={isElsewhere ? undefined : "page"}>Cluster</a></nav>
        <span class="note">{state?.pid}</span>
      </header>
      <main>
        <Problem error={error} what="The master does not answer." />
        {state && !state.leader_info && <Section title="No leader"><p class="empty">No master leads at the moment.</p></Section>}
        {state && sandbox && (
          <Sandbox
            state={state}
            agentId={sandbox[1] ?? ""}
            frameworkId={sandbox[2] ?? ""}
            executorId={decodeURIComponent(sandbox[3] ?? "")}
            path={decodeURIComponent(sandbox[4] ?? "")}
          />
        )}
        {state && log && <LogOf state={state} id={log[1] ?? ""} key={route} />}
        {state && !isElsewhere && (
          <>
            <Summary state={state} />
            <Tasks title="Active tasks" state={state} tasks={state.frameworks.flatMap((one) => one.tasks)} empty="No task runs." />
            <Agents agents={state.slaves} />
            <Frameworks frameworks={state.frameworks} />
            <Tasks title="Completed tasks" state={state} tasks={all.flatMap((one) => one.completed_tasks)} empty="No task has ended yet." />
          </>
        )}
      </main>
    </>
  );
}

const root = document.getElementById("app");
if (root) {
  root.replaceChildren();
  render(<Page />, root);
}
