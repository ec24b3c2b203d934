"""What is asked of Dagit's GraphQL."""

REPOSITORY = "__repository__"
"""What Dagster calls the one repository of a code location that holds a Definitions."""

LAUNCH = """
mutation ($parameters: ExecutionParams!) {
  launchRun(executionParams: $parameters) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on Error { message }
  }
}"""

RUN = """
query ($id: ID!, $after: String) {
  runOrError(runId: $id) {
    __typename
    ... on Run {
      status
      tags { key value }
      eventConnection(afterCursor: $after, limit: 500) {
        cursor
        hasMore
        events {
          __typename
          ... on MessageEvent { message level stepKey timestamp }
          ... on ErrorEvent { error { message errorChain { error { message } } } }
        }
      }
    }
    ... on Error { message }
  }
}"""

LOCATIONS = """
query {
  workspaceOrError {
    __typename
    ... on Workspace {
      locationEntries {
        name
        loadStatus
        locationOrLoadError { ... on PythonError { message stack errorChain { error { message stack } } } }
      }
    }
    ... on Error { message }
  }
}"""

RELOAD = """
mutation ($name: String!) {
  reloadRepositoryLocation(repositoryLocationName: $name) {
    __typename
    ... on WorkspaceLocationEntry {
      locationOrLoadError { ... on PythonError { message stack errorChain { error { message stack } } } }
    }
    ... on Error { message }
  }
}"""

IN_FLIGHT = """
query {
  runsOrError(filter: {statuses: [QUEUED, NOT_STARTED, STARTING, STARTED]}) {
    __typename
    ... on Runs { results { runId jobName status creationTime updateTime startTime tags { key value } } }
    ... on Error { message }
  }
}"""

ENDED_RUNS = """
query ($since: Float!) {
  runsOrError(filter: {statuses: [SUCCESS, FAILURE, CANCELED], createdAfter: $since}) {
    __typename
    ... on Runs { results { runId jobName status startTime endTime } }
    ... on Error { message }
  }
}"""

NEWEST_ENDED = """
query {
  runsOrError(filter: {statuses: [SUCCESS, FAILURE, CANCELED]}, limit: 200) {
    __typename
    ... on Runs { results { runId jobName status endTime } }
    ... on Error { message }
  }
}"""

NEWEST = """
query ($most: Int!) {
  runsOrError(limit: $most) {
    __typename
    ... on Runs { results { runId jobName status creationTime startTime endTime tags { key value } } }
    ... on Error { message }
  }
}"""

NEWEST_NUMBERS = """
query ($path: [String!]!) {
  assetOrError(assetKey: {path: $path}) {
    __typename
    ... on Asset { assetMaterializations(limit: 1) { metadataEntries { label ... on IntMetadataEntry { intValue } } } }
  }
}"""

CANCEL = """
mutation ($ids: [String!]!) {
  terminateRuns(runIds: $ids, terminatePolicy: MARK_AS_CANCELED_IMMEDIATELY) {
    __typename
    ... on Error { message }
  }
}"""

INSTIGATORS = """
query {
  repositoriesOrError {
    __typename
    ... on RepositoryConnection {
      nodes {
        location { name }
        sensors { name defaultStatus sensorState { ...state } }
        schedules { name defaultStatus scheduleState { ...state } }
      }
    }
    ... on Error { message }
  }
}
fragment state on InstigationState {
  status
  ticks(limit: 1) { status timestamp error { message errorChain { error { message } } } }
}"""

DAEMONS = """
query { instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } } }"""
