/** Marathon's API, as far as the page uses it. */

export interface Task {
  id: string;
  host: string;
  ports: number[];
  state: string;
  stagedAt: string | null;
  startedAt: string | null;
  version: string;
  slaveId: string;
}

export interface App {
  id: string;
  cmd?: string | null;
  cpus: number;
  mem: number;
  instances: number;
  tasksRunning: number;
  tasksStaged: number;
  tasksHealthy: number;
  tasksUnhealthy: number;
  deployments: { id: string }[];
  container?: { type: string; docker?: { image: string } };
  version: string;
  tasks?: Task[];
  lastTaskFailure?: { message: string; state: string; host: string; timestamp: string; taskId: string };
}

export interface Queued {
  app?: { id: string };
  delay: { timeLeftSeconds: number; overdue: boolean };
}

export interface Deployment {
  id: string;
  version: string;
  affectedApps: string[];
  currentActions: { action: string }[];
  currentStep: number;
  totalSteps: number;
}

/** What an app does, in the words of the original's page. */
export function statusOf(app: App, queue: Queued[]): { word: string; tone: "good" | "bad" | "wait"; title: string } {
  const queued = queue.find((one) => one.app?.id === app.id);
  if (queued && !queued.delay.overdue) {
    return { word: "Delayed", tone: "bad", title: `Task execution failed, delayed for ${queued.delay.timeLeftSeconds} seconds.` };
  }
  if (queued && app.tasksStaged === 0) return { word: "Waiting", tone: "wait", title: "Waiting for resource offer" };
  if (app.deployments.length > 0) return { word: "Deploying", tone: "wait", title: "A deployment is under way" };
  if (app.instances === 0) return { word: "Suspended", tone: "wait", title: "No instances are wanted" };
  return { word: "Running", tone: "good", title: "" };
}

/** Where an app is in the API. */
export const appUrl = (id: string): string => `/v2/apps${id}`;
