// Tells the app which result was opened. A beacon outlives the page: opening a result waits for nothing.
"use strict";

const results = document.querySelector("[data-query-id]");

function tell(event) {
  const link = event.target.closest("a[data-doc-id]");
  const rightButton = event.type === "auxclick" && event.button !== 1;
  if (!link || rightButton) return;
  const click = {
    action_name: "click",
    query_id: results.dataset.queryId,
    event_attributes: {
      object: { object_id: link.dataset.docId, object_id_field: "doc_id" },
      position: { ordinal: Number(link.dataset.position) },
    },
  };
  navigator.sendBeacon("/events", new Blob([JSON.stringify(click)], { type: "application/json" }));
}

// A link that is activated by the keyboard is clicked; the middle button makes an auxclick.
results.addEventListener("click", tell);
results.addEventListener("auxclick", tell);
