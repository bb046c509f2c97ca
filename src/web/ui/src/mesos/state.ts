/** The master's `/state`, as far as the page shows it; names are the original's. */

export interface Resources {
  cpus?: number;
  mem?: number;
  disk?: number;
  gpus?: number;
  ports?: string;
}

export interface Agent {
  id: string;
  hostname: string;
  pid: string;
  active: boolean;
  registered_time: number;
  resources: Resources;
  used_resources: Resources;
  version?: string;
}

export interface Task {
  id: string;
  name: string;
  framework_id: string;
  executor_id: string;
  slave_id: string;
  state: string;
  resources: Resources;
  statuses: { state: string; timestamp: number }[];
}

export interface Framework {
  id: string;
  name: string;
  user: string;
  hostname: string;
  active: boolean;
  registered_time: number;
  webui_url?: string;
  used_resources: Resources;
  tasks: Task[];
  completed_tasks: Task[];
}

export interface State {
  version: string;
  hostname: string;
  cluster?: string;
  log_dir?: string;
  external_log_file?: string;
  leader?: string;
  leader_info?: { hostname: string; port: number };
  pid: string;
  start_time: number;
  elected_time?: number;
  slaves: Agent[];
  frameworks: Framework[];
  completed_frameworks: Framework[];
}

/** `slave(1)@10.0.0.2:5051` as `http://10.0.0.2:5051`. */
export const agentUrl = (agent: Agent): string => `${location.protocol}//${agent.pid.split("@")[1] ?? ""}`;

/** The sum of one kind over all. */
export const sum = (all: Resources[], kind: "cpus" | "mem" | "disk"): number =>
  all.reduce((total, one) => total + (one[kind] ?? 0), 0);
