// The tests of the live page: `tests/page/run`. With PAGE_URL they drive a daemon, else the mock of mock.mjs.

import "./source.mjs";
import "./list.mjs";
import "./one.mjs";
import "./tail.mjs";
import "./access.mjs";
import "./safety.mjs";
import "./forwards.mjs";
import "./bounds.mjs";
import { runTests } from "./harness.mjs";

runTests();
