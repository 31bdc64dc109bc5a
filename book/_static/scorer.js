// How search orders what it finds. Sphinx leaves out words such as "which"; a title that holds all that was typed, these
// words too, comes first, and of several the one that holds the least besides.
var Scorer = {
  score: result => {
    const [, title, , , score] = result;
    const typed = (new URLSearchParams(window.location.search).get("q") || "").trim().toLowerCase();
    return title.toLowerCase().includes(typed) && typed ? score + 30 * typed.length / title.length : score;
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
