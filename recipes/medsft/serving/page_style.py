"""The look of the chat and review pages: the project's colours in gradio's theme, and layout for a phone."""

import gradio as gr

from medsft.study import look

CSS = (
    look.variables(dark=".dark { %s }")
    + """
#red-flags { background: var(--harm-page); border-left: 5px solid var(--harm); padding: 10px 14px; }
#red-flags, #red-flags * { color: var(--harm-ink) !important; }
.problem { background: var(--harm-page); color: var(--harm-ink); padding: 8px 12px; border-radius: 4px; margin: 0; }
footer { display: none; }
[id^="answer-"] .top-panel { display: none; }  /* its button would empty one box but not the conversation */
#tally { overflow-x: auto; }
#tally :is(th, td) { white-space: nowrap; }
::placeholder { color: var(--quiet) !important; opacity: 1; }
button[role=tab], nav a { color: var(--ink) !important; opacity: 1 !important; }
:focus-visible { outline: 3px solid var(--accent) !important; outline-offset: 2px; }
label:has(input:focus-visible) { outline: 3px solid var(--accent) !important; outline-offset: 2px; }
:is(#role, #form) .wrap { border-color: var(--field) !important; }
button[aria-label="Copy message"] { min-width: 24px; min-height: 24px; }  /* the least target of WCAG 2.2 AA */
@media (max-width: 600px) {
  [id^="answer-"] { max-height: none !important; }
  #keep-texts { min-width: 100% !important; }  /* beside another field its words were cut off */
}
"""
)


def theme() -> gr.Theme:
    """System fonts, because gradio's own themes may ask a font server; colours whose contrast is tested."""
    made = gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    light, dark = look.LIGHT, look.DARK
    return made.set(
        body_background_fill=light["page"],
        body_background_fill_dark=dark["page"],
        background_fill_primary=light["page"],
        background_fill_primary_dark=dark["page"],
        block_background_fill=light["page"],
        block_background_fill_dark=dark["page"],
        input_background_fill=light["page"],
        input_background_fill_dark=dark["page"],
        input_border_width="1px",
        input_border_color=light["field"],
        input_border_color_dark=dark["field"],
        body_text_color=light["ink"],
        body_text_color_dark=dark["ink"],
        body_text_color_subdued=light["quiet"],
        body_text_color_subdued_dark=dark["quiet"],
        block_label_text_color=light["ink"],
        block_label_text_color_dark=dark["ink"],
        block_title_text_color=light["ink"],
        block_title_text_color_dark=dark["ink"],
        checkbox_border_color=light["field"],
        checkbox_border_color_dark=dark["field"],
        input_placeholder_color=light["quiet"],
        input_placeholder_color_dark=dark["quiet"],
        button_primary_background_fill=light["accent"],
        button_primary_background_fill_dark=dark["accent"],
        button_primary_background_fill_hover=light["ink"],
        button_primary_background_fill_hover_dark=dark["ink"],
        button_primary_text_color=light["on-accent"],
        button_primary_text_color_dark=dark["on-accent"],
        button_primary_text_color_hover=light["page"],
        button_primary_text_color_hover_dark=dark["page"],
    )
