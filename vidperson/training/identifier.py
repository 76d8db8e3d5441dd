"""Training of an identifier, a network from the vectors of tracks to scores of persons: loss, plans, folds, export."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vidperson import cli
from vidperson.errors import DataError, TrainingError
from vidperson.networks.architectures.identifier import Identifier, IdentifierShape
from vidperson.networks.card import ModelCard, Output, VectorInput
from vidperson.networks.convert import build_network
from vidperson.training import command
from vidperson.training.clips import ClipBatches, Clips, Draw, Float, Index, clusters, stratified
from vidperson.training.command import Draw as DrawCurves
from vidperson.training.command import TrainingOptions, TrainingPlan
from vidperson.training.export import Run, export_module, new_card, write_card
from vidperson.training.loop import BEST, World, load_checkpoint
from vidperson.training.losses import arcface_logits, cosface_logits

GOAL = "map_100"
