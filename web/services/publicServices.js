// The public servers of the course's first phase, as the gateway's
// publicServices query lists them.
import publicServices from "../../labs/publicservices.json" with { type: "json" };

export { publicServices };
