"""The words of the pages that templates and scripts cannot build by themselves, in one language."""

from dataclasses import dataclass
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
    "upload_a700": marked("The server cannot store it at the moment. Try again later."),
    "upload_a900": marked("It does not match the study it was sent to."),
    "upload_part10.not_dicom": marked("It is no DICOM file."),
    "upload_storage.full": marked(
        "The server has no room left. Nothing was lost; try again later."
    ),
    "upload_c000": marked("Its DICOM data cannot be read."),
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
    "open_document": marked("Open the document"),
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


@dataclass(frozen=True, slots=True)
class PageWords:
    """Sentences about studies in one language; `today` is the reader's date."""

    lang: str
    today: date

    def _say(self, msgid: str, **fields: object) -> str:
        return translate(msgid, self.lang, **fields)

    def patient_line(self, patient: PatientFacts) -> str:
        """Sex and age, as far as known."""
        sex = self._say(SEX[patient.sex]) if patient.sex else ""
        age = self._say(patient.age.msgid, count=patient.age.count) if patient.age else ""
        return self._say(marked("{sex}, {age}"), sex=sex, age=age) if sex and age else sex or age

    def counts(self, series: int, instances: int, *, pictured: bool = True) -> str:
        """How much a study holds."""
        if not pictured:
            return self._say(marked("{count} objects"), count=instances)
        if series <= 1:
            return self._images(instances)
        return self._say(marked("{series} series, {count} images"), series=series, count=instances)

    def _images(self, count: int) -> str:
        if count == 1:
            return self._say(marked("1 image"))
        return self._say(marked("{count} images"), count=count)

    def day_words(self, day: date | None) -> str:
        """A date as people say it."""
        if day is None:
            return self._say(marked("No date"))
        if day == self.today:
            return self._say(marked("Today"))
        if day == self.today - timedelta(days=1):
            return self._say(marked("Yesterday"))
        return day.isoformat()

    def stack_words(self, stack: Stack) -> str:
        """What a tile of the series strip opens."""
        if stack.kind:
            return self._say(stack.kind.name)
        if stack.shape == "frames":
            return self._say(marked("{count} frames"), count=stack.count)
        return self._images(stack.count)

    def modality_name(self, code: str) -> str:
        """The name of a modality (PS3.3 C.7.3.1.1.1), its code where we have no name."""
        return self._say(MODALITIES[code]) if code in MODALITIES else code


def script_words(words: dict[str, str], lang: str) -> dict[str, str]:
    """The words that a page's script says, by key, in `lang`; placeholders stay for the script."""
    return {key: translate(msgid, lang) for key, msgid in words.items()}
