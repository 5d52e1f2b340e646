"""The pages and their addresses: one file per family of pages."""

from __future__ import annotations

from django.urls import path

from app.views import diagnostics, film, study, upload, worklist

urlpatterns = [
    path("", worklist.worklist, name="worklist"),
    path("rows", worklist.rows, name="worklist-rows"),
    path("upload", upload.upload, name="upload"),
    path("studies/<str:number>/", study.study, name="study"),
    path("studies/<str:number>/status", study.status, name="study-status"),
    path("films/<int:pk>.png", film.film, name="film"),
    path("films/<int:pk>/thumbnail.png", film.thumbnail, name="thumbnail"),
    path("films/<int:pk>/map.png", film.activation_map, name="map"),
    path("diagnostics", diagnostics.download, name="diagnostics"),
]
