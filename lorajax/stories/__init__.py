"""Pretrained story tellers: tasks of styles, over stories that the models tell themselves."""
