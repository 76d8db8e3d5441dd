# shellcheck shell=bash disable=SC2034
# iQIYI-VID of 2018 or 2019 (iqiyi_vid_dir): which of thousands of persons is in this clip? The persons are
# learnt from the training clips, and for the test clips from the validation clips, too.
corpora=iqiyi_vid
trial_sets="iqiyi_vid_train:iqiyi_vid_val iqiyi_vid_train+iqiyi_vid_val:iqiyi_vid_test"
calibration_set=iqiyi_vid_val
fps=2.0
second_look=40   # frames of a clip up to 20 s to search where none of the first shows a sure face
