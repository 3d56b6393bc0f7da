/** What a React app of yours needs to follow tasks: it must be inside `<ConvexProvider>`. */
export { appendChunks, textOf, type Segment } from "./stream";
export { useStream, type Stream } from "./useStream";
export { useRead, type Read } from "./useRead";
export { useTask, type FollowedTask } from "./useTask";
