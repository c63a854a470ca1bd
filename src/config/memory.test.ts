import { MemoryStore } from "./memory.ts";
import { describeWritableStore } from "./store-conformance.ts";

describeWritableStore("MemoryStore", async () => new MemoryStore());
