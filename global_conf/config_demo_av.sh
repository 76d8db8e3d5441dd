# shellcheck shell=bash disable=SC2034
# A small corpus of talking people that run_demo.sh makes, with artificial voices: is it the same
# person in two videos, by face and by voice? Every stage in some minutes, with the small networks.
# It cleanses a training list with wrong rows, and trains the voice network demo_av on the others.
demo_stages="0 1 2 3 2:demo_av_list 3:demo_av_list 15:demo_av_cleanse 12:train_demo_av"
demo_stages+=" 0:demo_av_voice 3:demo_av_voice 4:demo_av_voice 4 5:demo_av_voice 5"
corpora=demo_av
modalities="face speaker"
trial_sets="vox1_o_other:vox1_o_other vox1_e_other:vox1_e_other"
face_detector=retinaface_tiny
face_embedder=arcface_tiny
speaker_embedder=ecapa_tiny
backends=mean-cosine
calibration_set=vox1_e_other
fusion_systems=mean-cosine
fusion_methods="mean logistic quality"
quality_measures="norm snr"
report_note="All voices are artificial: the figures say nothing about real data."
