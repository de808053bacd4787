"""Cut objects out of photographs whose boxes are known, into one folder of images for each class.

python examples/cut_boxes.py VOC_FOLDER NEW_FOLDER

VOC_FOLDER has Pascal VOC's layout: Annotations/*.xml and JPEGImages/*.jpg. NEW_FOLDER is then what selfkd trains on:
selfkd train photos/resnet18/dtskd data.root=NEW_FOLDER
"""

import sys
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

annotated, target = map(Path, sys.argv[1:])
for file in sorted((annotated / "Annotations").glob("*.xml")):
    with Image.open(annotated / "JPEGImages" / f"{file.stem}.jpg") as photograph:
        for number, labelled in enumerate(ElementTree.parse(file).iter("object")):  # noqa: S314 (your own file)
            box = [int(labelled.findtext(f"bndbox/{side}", "0")) for side in ("xmin", "ymin", "xmax", "ymax")]
            if box[0] < box[2] and box[1] < box[3]:  # some annotations have empty boxes
                folder = target / labelled.findtext("name", "unnamed")
                folder.mkdir(parents=True, exist_ok=True)
                photograph.crop(box).save(folder / f"{file.stem}_{number}.png")
