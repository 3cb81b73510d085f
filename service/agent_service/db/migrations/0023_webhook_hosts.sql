-- Webhooks are taken by their hosts: one that does not answer keeps no other's waiting.

-- Of a run that somebody is to be told of: where. As the service has read the URL when it took it: no user, a host that it knows.
CREATE FUNCTION slipway.webhook_host(input jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(lower(trim(both '[]' from substring(input->'wire'->>'webhook' from '^[a-zA-Z]+://(\[[^]]*\]|[^/:?#]*)'))), '')
$$;
