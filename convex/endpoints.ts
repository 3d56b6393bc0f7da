import { v } from "convex/values";
import { operatorMutation, operatorQuery } from "./functions";
import * as Endpoints from "./model/endpoints";
import { vEndpointSpec, vEndpointView } from "./endpoint.validators";

export const set = operatorMutation({
  args: vEndpointSpec.fields,
  returns: v.object({ name: v.string(), changed: v.boolean() }),
  handler: (ctx, spec) => Endpoints.setEndpoint(ctx, spec),
});

export const list = operatorQuery({
  args: {},
  returns: v.array(vEndpointView),
  handler: (ctx) => Endpoints.viewEndpoints(ctx),
});

export const remove = operatorMutation({
  args: { name: v.string() },
  returns: v.null(),
  handler: async (ctx, { name }) => {
    await Endpoints.removeEndpoint(ctx, name);
    return null;
  },
});
