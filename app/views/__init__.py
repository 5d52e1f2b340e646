"""The pages and their addresses: one file per family of pages."""

from __future__ import annotations

from django.urls import path

from app.views import (
    account,
    camera,
    diagnostics,
    film,
    lan,
    language,
    people,
    readings,
    report,
    signs,
    site,
    study,
    upload,
    viewer,
    worklist,
)

urlpatterns = [
    path("", worklist.worklist, name="worklist"),
    path("rows", worklist.rows, name="worklist-rows"),
    path("upload", upload.upload, name="upload"),
    path("studies/<str:number>/", study.study, name="study"),
    path("studies/<str:number>/status", study.status, name="study-status"),
    path("studies/<str:number>/view", viewer.viewer, name="viewer"),
    path("studies/<str:number>/report", report.report, name="report"),
    path("studies/<str:number>/signs", signs.record_signs, name="record-signs"),
    path("studies/<str:number>/age", signs.record_age, name="record-age"),
    path("studies/<str:number>/readings", readings.record_reading, name="record-reading"),
    path("studies/<str:number>/diagnosis", readings.record_diagnosis, name="record-diagnosis"),
    path("films/<int:pk>.png", film.film, name="film"),
    path("films/<int:pk>/pixels", viewer.pixels, name="pixels"),
    path("films/<int:pk>/thumbnail.png", film.thumbnail, name="thumbnail"),
    path("films/<int:pk>/map.png", film.activation_map, name="map"),
    path("set-up", account.set_up, name="set-up"),
    path("log-in", account.log_in, name="log-in"),
    path("log-out", account.log_out, name="log-out"),
    path("password", account.password, name="password"),
    path("people", people.people, name="people"),
    path("people/new", people.new_person, name="new-person"),
    path("people/<int:pk>", people.person, name="person"),
    path("audit", people.audit, name="audit"),
    path("settings", site.site, name="site"),
    path("settings/devices", lan.door, name="lan"),
    path("settings/devices/certificate", lan.authority, name="lan-authority"),
    path("add-phone", lan.add_phone, name="add-phone"),
    path("join/<str:code>", lan.join, name="join"),
    path("camera", camera.camera, name="camera"),
    path("camera/verdict", camera.verdict, name="camera-verdict"),
    path("language", language.choose_language, name="choose-language"),
    path("diagnostics", diagnostics.download, name="diagnostics"),
]
