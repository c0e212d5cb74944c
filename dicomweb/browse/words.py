"""The words of the pages that templates and scripts cannot build by themselves, in one language."""

from collections.abc import Callable
from datetime import date, timedelta

from dicomweb.browse.facts import PatientFacts
from dicomweb.browse.kinds import MODALITIES
from dicomweb.browse.stacks import Stack
from kernel.i18n.catalog import marked, translate

SEX = {"M": marked("Male"), "F": marked("Female")}

UPLOAD_WORDS = {
    "upload_busy": marked("Uploading"),
    "upload_finished": marked("Upload finished"),
    "upload_running": marked("{done} of {files} files stored"),
    "upload_done": marked("All {files} files are stored."),
    "upload_some_failed": marked("{done} files are stored, {failed} were not:"),
    "upload_cancelled": marked("Cancelled."),
    "upload_no_connection": marked("The server could not be reached. Try again."),
    "upload_refused": marked("The server refused it (status {status}, reason {code})."),
    "upload_a700": marked("The server has no room left. Nothing was lost; try again later."),
    "upload_a900": marked("It does not match the study it was sent to."),
    "upload_c000": marked("It is no readable DICOM file."),
    "upload_110": marked("The server could not process it."),
    "upload_122": marked("This kind of object is not accepted."),
}

VIEWER_WORDS = {
    "preset_default": marked("Default"),
    "preset_full": marked("Full range"),
    "preset_lung": marked("Lung"),
    "preset_mediastinum": marked("Mediastinum"),
    "preset_abdomen": marked("Abdomen"),
    "preset_bone": marked("Bone"),
    "preset_brain": marked("Brain"),
    "overlay_image": marked("Image {index} / {count}"),
    "overlay_frame": marked("Frame {index} / {count}"),
    "overlay_location": marked("Position {mm} mm"),
    "overlay_thickness": marked("Thickness {mm} mm"),
    "overlay_zoom": marked("Zoom {percent} %"),
    "cannot_display": marked("This image cannot be displayed"),
    "render_failed": marked(
        "The server could not draw it (status {status}). The object is kept complete."
    ),
    "no_connection": marked("The server could not be reached. Check the connection."),
    "download_object": marked("Download this object"),
    "show_elements": marked("Show its elements"),
    "elements_failed": marked("The elements could not be loaded. Try again."),
    "stack_failed": marked("This series could not be loaded. Try again."),
}

HELP = (
    (marked("Wheel, ↑ ↓"), marked("Previous or next image")),
    (marked("Page up, Page down"), marked("Ten images")),
    (marked("Space"), marked("Play or pause")),
    (marked("Left drag"), marked("The chosen tool")),
    (marked("Right drag"), marked("Brightness and contrast")),
    (marked("Shift + drag"), marked("Move the image")),
    (marked("Ctrl + wheel, + −"), marked("Zoom")),
    (marked("1 … 9"), marked("Window presets")),
    (marked("Double click, 0"), marked("Fit to the pane, original window")),
    (marked("[ ]"), marked("Previous or next series")),
    (marked("One finger"), marked("Scroll through slices")),
    (marked("Two fingers"), marked("Zoom and move")),
)


def page_words(lang: str, today: date) -> dict[str, Callable[..., str]]:
    """The functions that templates call, bound to `lang`."""

    def say(msgid: str, **fields: object) -> str:
        return translate(msgid, lang, **fields)

    def patient_line(patient: PatientFacts) -> str:
        sex = say(SEX[patient.sex]) if patient.sex else ""
        age = say(patient.age.msgid, count=patient.age.count) if patient.age else ""
        return say(marked("{sex}, {age}"), sex=sex, age=age) if sex and age else sex or age

    def counts(series: int, instances: int) -> str:
        if instances == 1:
            return say(marked("1 image"))
        if series == 1:
            return say(marked("{count} images"), count=instances)
        return say(marked("{series} series, {count} images"), series=series, count=instances)

    def day_words(day: date | None) -> str:
        if day is None:
            return say(marked("No date"))
        if day == today:
            return say(marked("Today"))
        return say(marked("Yesterday")) if day == today - timedelta(days=1) else day.isoformat()

    def image_words(stack: Stack) -> str:
        if stack.shape == "frames":
            return say(marked("{count} frames"), count=stack.count)
        if stack.count == 1:
            return say(marked("1 image"))
        return say(marked("{count} images"), count=stack.count)

    def modality_name(code: str) -> str:
        return say(MODALITIES[code]) if code in MODALITIES else code

    return {
        "patient_line": patient_line,
        "counts": counts,
        "day_words": day_words,
        "image_words": image_words,
        "modality_name": modality_name,
    }


def script_words(words: dict[str, str], lang: str) -> dict[str, str]:
    """The words that a page's script says, by key, in `lang`; placeholders stay for the script."""
    return {key: translate(msgid, lang) for key, msgid in words.items()}
