import { anyApi, cronJobs } from "convex/server";

const crons = cronJobs();
crons.interval("mutation", { seconds: 1 }, anyApi.jobs.beat, { cron: "mutation" });
crons.interval("action", { seconds: 1 }, anyApi.jobs.beatByAction, {});
export default crons;
